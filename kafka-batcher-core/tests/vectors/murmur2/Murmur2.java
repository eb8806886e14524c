// Reads `hex-key <tab> partitions` lines, writes them with the partition that Kafka's Java client gives.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HexFormat;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

class Murmur2 {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            String[] fields = line.split("\t");
            byte[] key = HexFormat.of().parseHex(fields[0]);
            int partitions = Integer.parseInt(fields[1]);

            int partition = BuiltInPartitioner.partitionForKey(key, partitions);
            if (partition != Utils.toPositive(Utils.murmur2(key)) % partitions) {
                throw new AssertionError("the partitioner is no longer murmur2: " + line);
            }
            System.out.print(line + "\t" + partition + "\n");
        }
    }
}
