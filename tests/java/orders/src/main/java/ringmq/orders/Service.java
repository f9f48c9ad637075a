package ringmq.orders;

import java.io.IOException;
import java.util.Map;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * What every service is made of: its database ({@code --database}), its outbox, its consume log, its door
 * ({@code --port}) and its connection to the broker ({@code --namesrv}).
 */
final class Service {
    /** A client that has lost its broker makes itself known to the next one with a heartbeat. */
    private static final int HEARTBEAT_MS = 2_000;
    private static final int PERSIST_OFFSETS_MS = 1_000;
    /** No delay, but the broker's sign that a message that is handed back goes to the dead letters at once. */
    private static final int DEAD_LETTER = -1;

    final Options options;
    final Steps steps;
    final Database database;
    final Outbox outbox = new Outbox();
    private final ConsumeLog log;

    Service(Options options, Steps steps) throws Exception {
        this.options = options;
        this.steps = steps;
        database = Database.open(options.text("database"));
        log = new ConsumeLog(database, steps);
        create(Outbox.SCHEMA, ConsumeLog.SCHEMA);
    }

    void create(String... tables) throws Exception {
        database.transaction(transaction -> {
            for (String table : tables) {
                transaction.change(table);
            }
            return null;
        });
    }

    Door door() throws IOException {
        return new Door(options.number("port"));
    }

    /** Starts to send what the outbox holds. */
    void sendOutbox(String group) throws MQClientException {
        DefaultMQProducer producer = new DefaultMQProducer(group);
        connect(producer);
        producer.start();
        new OutboxSender(database, outbox, producer, steps).start();
    }

    /** Starts to consume {@code topic}: each message makes the database change that belongs to its tag. */
    void consume(String group, String topic, Map<String, ConsumeLog.Change> changes) throws MQClientException {
        DefaultMQPushConsumer consumer = consumer(group);
        consumer.subscribe(topic, String.join(" || ", changes.keySet()));
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            // One at a time, as the client gives them unless told otherwise.
            MessageExt message = messages.get(0);
            ConsumeLog.Outcome outcome = outcome(group, message, changes.get(message.getTags()));
            if (outcome == ConsumeLog.Outcome.DEAD) {
                context.setDelayLevelWhenNextConsume(DEAD_LETTER);
            }
            return outcome == ConsumeLog.Outcome.DONE
                ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        consumer.start();
    }

    private ConsumeLog.Outcome outcome(String group, MessageExt message, ConsumeLog.Change change) {
        try {
            ConsumeLog.Receipt receipt = new ConsumeLog.Receipt(group, message.getTags(), message.getKeys());
            return log.once(receipt, Form.parse(message.getBody()), change);
        } catch (Exception e) {
            System.err.println("the consume log cannot be written: " + e);
            return ConsumeLog.Outcome.AGAIN;
        }
    }

    private DefaultMQPushConsumer consumer(String group) {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        connect(consumer);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setConsumeThreadMin(2);
        consumer.setConsumeThreadMax(2);
        return consumer;
    }

    void connect(ClientConfig client) {
        client.setNamesrvAddr(options.text("namesrv"));
        client.setHeartbeatBrokerInterval(HEARTBEAT_MS);
        client.setPollNameServerInterval(HEARTBEAT_MS);
        // The clients of a process share what the first one of them has set.
        client.setPersistConsumerOffsetInterval(PERSIST_OFFSETS_MS);
    }
}
