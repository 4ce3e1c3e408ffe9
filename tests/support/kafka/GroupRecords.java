import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;
import org.apache.kafka.coordinator.group.GroupCoordinatorRecordSerde;

/** Has Kafka read records of __consumer_offsets (arguments: key and value in hex, "-" for none), and write them again. */
public class GroupRecords {
    public static void main(String[] arguments) {
        GroupCoordinatorRecordSerde serde = new GroupCoordinatorRecordSerde();
        HexFormat hex = HexFormat.of();
        for (int i = 0; i < arguments.length; i += 2) {
            ByteBuffer key = ByteBuffer.wrap(hex.parseHex(arguments[i]));
            ByteBuffer value = arguments[i + 1].equals("-") ? null : ByteBuffer.wrap(hex.parseHex(arguments[i + 1]));
            CoordinatorRecord record = serde.deserialize(key, value);
            byte[] writtenValue = serde.serializeValue(record);
            System.out.println(hex.formatHex(serde.serializeKey(record)));
            System.out.println(writtenValue == null ? "-" : hex.formatHex(writtenValue));
            System.out.println(record);
        }
    }
}
