/* Reads `hex-key <tab> partitions` lines, writes them with the partition that librdkafka gives the key.
 *
 * Its partitioners are public functions; these look at nothing but key and count. The one asked is
 * `consistent`, or the one named as the argument: librdkafka has versions of two of the other hashes too. */

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int32_t partitioner(const rd_kafka_topic_t *, const void *, size_t, int32_t, void *, void *);

static partitioner *find(const char *name) {
    if (!strcmp(name, "consistent")) return rd_kafka_msg_partitioner_consistent;
    if (!strcmp(name, "murmur2")) return rd_kafka_msg_partitioner_murmur2;
    if (!strcmp(name, "fnv1a")) return rd_kafka_msg_partitioner_fnv1a;
    fprintf(stderr, "no such partitioner: %s\n", name);
    exit(1);
}

int main(int argc, char **argv) {
    static char line[1 << 17];
    static unsigned char key[sizeof line / 2];
    partitioner *partition = find(argc > 1 ? argv[1] : "consistent");

    fprintf(stderr, "librdkafka %s\n", rd_kafka_version_str());
    while (fgets(line, sizeof line, stdin)) {
        size_t digits = strcspn(line, "\t");
        int32_t partitions = (int32_t)strtol(line + digits, NULL, 10);
        size_t i;

        for (i = 0; i < digits / 2; i++) {
            unsigned int byte;
            if (sscanf(line + 2 * i, "%2x", &byte) != 1) return 1;
            key[i] = (unsigned char)byte;
        }
        line[strcspn(line, "\n")] = '\0';
        printf("%s\t%d\n", line, partition(NULL, key, digits / 2, partitions, NULL, NULL));
    }
    return 0;
}
