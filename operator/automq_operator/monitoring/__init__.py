"""Pure: alerts and dashboards of the chart, over metrics of brokers and operator; the operator reads none."""
