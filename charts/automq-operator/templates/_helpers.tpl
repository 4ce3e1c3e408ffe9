{{- define "automq-operator.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "automq-operator.account" -}}
{{- .Values.serviceAccount.name | default (include "automq-operator.name" .) -}}
{{- end -}}

{{- define "automq-operator.labels" -}}
app.kubernetes.io/name: automq-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "automq-operator.selector" -}}
app.kubernetes.io/name: automq-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "automq-operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "automq-operator.pullSecrets" -}}
{{- $names := list -}}
{{- range .Values.imagePullSecrets }}{{ $names = append $names .name }}{{ end -}}
{{ join "," $names }}
{{- end -}}

{{- /* Whether something for a monitoring system is made: "auto" where that system's kind is known. */ -}}
{{- define "automq-operator.wanted" -}}
{{- $known := .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) -}}
{{- if or (eq (toString .value) "true") (and (eq (toString .value) "auto") $known) }}yes{{ end -}}
{{- end -}}

{{- /* What the operator may do in a namespace with clusters. No verb or resource is a star, and no Secrets. */ -}}
{{- define "automq-operator.rules" -}}
- apiGroups: [automq.io]
  resources: [automqclusters, automqtopics]
  verbs: [get, list, watch, patch]
- apiGroups: [automq.io]
  resources: [automqclusters/status, automqtopics/status]
  verbs: [get, patch]
- apiGroups: [automq.io]
  resources: [automqclusters/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}
