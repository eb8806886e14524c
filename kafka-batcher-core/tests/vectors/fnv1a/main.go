// Reads `hex-key <tab> partitions` lines, writes them with the partition that Sarama's default gives the key.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"

	"github.com/IBM/sarama"
)

func main() {
	partitioner := sarama.NewConfig().Producer.Partitioner("any topic")
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<17)
	for in.Scan() {
		digits, count, _ := strings.Cut(in.Text(), "\t")
		key, err := hex.DecodeString(digits)
		if err != nil {
			log.Fatal(err)
		}
		partitions, err := strconv.ParseInt(count, 10, 32)
		if err != nil {
			log.Fatal(err)
		}
		// An encoder around no bytes is an empty key; only a message without an encoder has none.
		message := &sarama.ProducerMessage{Key: sarama.ByteEncoder(key)}
		partition, err := partitioner.Partition(message, int32(partitions))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\t%d\n", in.Text(), partition)
	}
	if err := in.Err(); err != nil {
		log.Fatal(err)
	}
}
