import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.*;

/** Gives the first partitions of a topic a list of replicas, repeats and all, and prints what they show then. */
public class Reassign {
    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        int partitions = Integer.parseInt(arguments[2]);
        List<Integer> replicas = Arrays.stream(arguments[3].split(",")).map(Integer::valueOf).toList();
        try (AdminClient admin = AdminClient.create(Map.of("bootstrap.servers", arguments[0]))) {
            Map<TopicPartition, Optional<NewPartitionReassignment>> wanted = new HashMap<>();
            for (int index = 0; index < partitions; index++)
                wanted.put(new TopicPartition(topic, index), Optional.of(new NewPartitionReassignment(replicas)));
            admin.alterPartitionReassignments(wanted).all().get(20, TimeUnit.SECONDS);
            TopicDescription shown =
                admin.describeTopics(List.of(topic)).allTopicNames().get(20, TimeUnit.SECONDS).get(topic);
            for (TopicPartitionInfo part : shown.partitions())
                System.out.println("REPLICAS " + part.partition() + " "
                    + part.replicas().stream().map(Node::idString).collect(Collectors.joining(",")));
        }
    }
}
