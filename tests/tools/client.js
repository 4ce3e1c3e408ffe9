// Administers, produces idempotently, consumes in a group, reads offsets back.
const { Kafka, logLevel } = require("kafkajs");

const RECORDS = 300;

async function main() {
  const kafka = new Kafka({ clientId: "kafkajs", brokers: [process.argv[2]], logLevel: logLevel.ERROR });
  const admin = kafka.admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic: "js", numPartitions: 2, replicationFactor: 1 }], waitForLeaders: true });
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  const messages = [...Array(RECORDS).keys()].map((n) => ({ key: `k${n}`, value: `v${n}`, headers: { n: `${n}` } }));
  await producer.send({ topic: "js", messages });
  await producer.disconnect();
  const consumer = kafka.consumer({ groupId: "js-group" });
  await consumer.connect();
  await consumer.subscribe({ topics: ["js"], fromBeginning: true });
  const seen = new Set();
  await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`read ${seen.size} of ${RECORDS}`)), 25000).unref();
    consumer.run({
      eachMessage: async ({ message }) => {
        if (message.value.toString() !== `v${message.headers.n}`) reject(new Error(`wrong: ${message.value}`));
        seen.add(message.key.toString());
        if (seen.size === RECORDS) resolve();
      },
    }).catch(reject);
  });
  await consumer.disconnect();
  const offsets = await admin.fetchOffsets({ groupId: "js-group", topics: ["js"] });
  const total = offsets[0].partitions.reduce((sum, each) => sum + Number(each.offset), 0);
  if (total !== RECORDS) throw new Error(`committed ${total}`);
  await admin.deleteTopics({ topics: ["js"] });
  await admin.disconnect();
  console.log(`RIGHT ${seen.size}`);
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
