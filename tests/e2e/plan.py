"""Which stories there are, and which may be run side by side.

Stories with a figure, and those that break what all share, have the machine for themselves; the others run in lanes.
The short run leaves out what takes long and shows a variant of what is shown anyway.
"""

from typing import Final

from tests.e2e.stories import brokers, cluster, deletion, listeners, nodes, operator, scaling, serving, specs, store
from tests.e2e.story import Stage

STAGES: Final = (
    Stage(
        [
            [
                serving.install_the_operator,
                serving.apply_to_ready,
                serving.status_names_what_a_user_needs,
                serving.unchanged_cluster_causes_no_write,
                brokers.killed_pod_is_serving_again,
                cluster.three_brokers_are_one_cluster,
                cluster.scale_out_gives_new_brokers_their_share,
                cluster.scale_in_empties_brokers_first,
            ]
        ]
    ),
    Stage(
        [
            [
                cluster.roll_costs_no_failed_send,
                cluster.killed_broker_of_three_heals,
                cluster.scale_in_that_is_taken_back_keeps_everybody,
                cluster.operator_killed_in_a_drain_finishes_it,
                cluster.bad_image_stops_at_the_first_broker,
                cluster.drained_node_of_three_costs_no_failed_send,
                cluster.three_brokers_at_zero_come_back,
            ]
        ],
        short=False,
    ),
    Stage(
        [
            [
                serving.addresses_in_the_status_are_what_clients_use,
                serving.produce_and_consume_from_a_pod,
                serving.produce_and_consume_from_outside,
                serving.every_node_leads_to_the_broker,
                scaling.scale_out_of_bounds_is_refused_by_the_api_server,
                operator.people_who_view_read_and_people_who_edit_write,
                specs.bad_specs_are_refused_with_field_and_remedy,
                specs.odd_specs_are_accepted,
                specs.refused_child_is_named_and_heals,
                specs.out_of_memory_is_named_and_heals,
            ],
            [
                store.missing_secret_is_named_and_heals,
                store.wrong_credentials_are_named_and_heal,
                store.missing_bucket_is_named_and_heals,
                specs.listener_that_is_removed_takes_its_port_along,
                listeners.load_balancer_listener_is_served_once_it_has_an_address,
                scaling.autoscaler_works_until_another_scales_the_same_brokers,
                scaling.cluster_at_zero_keeps_its_data_and_comes_back,
            ],
            [
                deletion.clusters_live_side_by_side,
                deletion.delete_policy_empties_the_prefix,
                deletion.taken_prefix_is_refused_and_its_thief_deletes_nothing,
                deletion.deleted_namespace_does_not_hang_and_says_what_is_left,
            ],
            [
                deletion.foreground_deletion_empties_the_prefix_too,
                deletion.cluster_that_is_deleted_before_it_is_known_leaves_nothing,
                deletion.foreign_job_of_the_name_is_not_believed,
            ],
        ]
    ),
    Stage(
        [
            [
                brokers.stalled_broker_is_not_replaced,
                brokers.restart_that_is_asked_for_happens_once,
                brokers.changed_image_replaces_the_pod_once,
                brokers.drained_node_costs_one_move,
                brokers.broker_that_only_the_operator_cannot_hear_stays_ready,
            ]
        ]
    ),
    Stage(
        [
            [
                brokers.changed_config_replaces_the_pod_once,
                brokers.paused_cluster_is_left_alone,
                brokers.many_changes_at_once_cost_few_replacements,
                operator.killed_leader_is_followed_by_the_other,
                operator.both_replicas_killed_in_a_roll_finish_it,
                operator.changed_operator_without_another_image_leaves_brokers_alone,
                operator.release_without_the_crd_takes_nothing_along,
                operator.upgraded_operator_moves_one_cluster_after_the_other,
            ]
        ],
        short=False,
    ),
    Stage(
        [
            [
                operator.wiped_status_and_restarted_operator_restart_no_broker,
                operator.uninstalled_operator_takes_nothing_along,
                nodes.most_nodes_frozen_is_no_reason_to_replace_anything,
                nodes.frozen_node_is_replaced_and_its_zombie_is_fenced,
            ]
        ]
    ),
    Stage([[nodes.cut_node_is_replaced]], short=False),
    Stage(
        [
            [
                store.store_that_is_down_makes_ready_false_and_restarts_nothing,
                deletion.deleted_cluster_leaves_the_bucket_and_nothing_else,
                deletion.adopting_cluster_has_all_the_data,
                deletion.deletion_ends_when_the_store_is_gone,
            ]
        ]
    ),
)
