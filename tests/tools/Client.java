import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.internals.RecordHeader;

/** Administers, produces, consumes in a group, commits and reads back: what every generation of the client can do. */
public class Client {
    static final int RECORDS = 500;

    static void check(boolean holds, String what) {
        if (!holds) throw new IllegalStateException(what);
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> common = new HashMap<>();
        common.put("bootstrap.servers", arguments[0]);
        String topic = "java", group = "java-group";
        try (AdminClient admin = AdminClient.create(common)) {
            NewTopic asked = new NewTopic(topic, 3, (short) 1).configs(Map.of("retention.ms", "3600000"));
            admin.createTopics(List.of(asked)).all().get(20, TimeUnit.SECONDS);
            produce(common, topic);
            consume(common, topic, group);
            Map<TopicPartition, OffsetAndMetadata> committed =
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(20, TimeUnit.SECONDS);
            long total = committed.values().stream().mapToLong(OffsetAndMetadata::offset).sum();
            check(total == RECORDS, "committed " + total);
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            Config config = admin.describeConfigs(List.of(resource)).all().get(20, TimeUnit.SECONDS).get(resource);
            check(config.get("retention.ms").value().equals("3600000"), "retention.ms");
            check(admin.describeConsumerGroups(List.of(group)).all().get(20, TimeUnit.SECONDS).containsKey(group), "group");
            admin.deleteConsumerGroups(List.of(group)).all().get(20, TimeUnit.SECONDS);
            admin.deleteTopics(List.of(topic)).all().get(20, TimeUnit.SECONDS);
        }
        System.out.println("RIGHT " + RECORDS);
    }

    static void produce(Map<String, Object> common, String topic) throws Exception {
        Map<String, Object> settings = new HashMap<>(common);
        settings.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        settings.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        settings.put("enable.idempotence", true);
        settings.put("acks", "all");
        settings.put("compression.type", "gzip");
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings)) {
            for (int number = 0; number < RECORDS; number++) {
                ProducerRecord<String, String> record =
                    new ProducerRecord<>(topic, null, 1700000000000L + number, "key-" + number, "value-" + number);
                record.headers().add(new RecordHeader("number", Integer.toString(number).getBytes()));
                producer.send(record);
            }
            producer.flush();
        }
    }

    static void consume(Map<String, Object> common, String topic, String group) {
        Map<String, Object> settings = new HashMap<>(common);
        settings.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        settings.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        settings.put("group.id", group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", false);
        Set<String> seen = new HashSet<>();
        long end = System.currentTimeMillis() + 20000;
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings)) {
            consumer.subscribe(List.of(topic));
            while (seen.size() < RECORDS && System.currentTimeMillis() < end) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) {
                    String number = new String(record.headers().lastHeader("number").value());
                    check(record.value().equals("value-" + number), record.toString());
                    check(record.timestamp() == 1700000000000L + Long.parseLong(number), "timestamp " + record);
                    check(seen.add(record.key()), "twice: " + record.key());
                }
            }
            check(seen.size() == RECORDS, "read " + seen.size());
            consumer.commitSync();
        }
    }
}
