package ringmq.orders;

import java.util.List;
import org.apache.rocketmq.client.producer.MQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/**
 * Sends what the outbox holds, in order, and marks it afterwards. Who dies in between sends it again: at least once,
 * never not at all.
 */
final class OutboxSender {
    /** How long a broker that does not answer is left alone. */
    private static final long PAUSE_MS = 500;

    private final Database database;
    private final Outbox outbox;
    private final MQProducer producer;
    private final Steps steps;

    OutboxSender(Database database, Outbox outbox, MQProducer producer, Steps steps) {
        this.database = database;
        this.outbox = outbox;
        this.producer = producer;
        this.steps = steps;
    }

    void start() {
        Thread thread = new Thread(this::run, "outbox");
        thread.setDaemon(true);
        thread.start();
    }

    private void run() {
        try {
            while (true) {
                try {
                    sendAll();
                } catch (InterruptedException e) {
                    throw e;
                } catch (Exception e) {
                    System.err.println("the outbox waits: " + e);
                }
                outbox.await(PAUSE_MS);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void sendAll() throws Exception {
        List<Row> promised = database.transaction(outbox::unsent);
        while (!promised.isEmpty()) {
            for (Row one : promised) {
                steps.reached("promised");
                SendResult result = producer.send(message(one));
                if (result.getSendStatus() != SendStatus.SEND_OK) {
                    throw new IllegalStateException("the broker keeps it, but not as safely as told: " + result);
                }
                steps.reached("sent");
                database.transaction(transaction -> {
                    outbox.mark(transaction, one);
                    return null;
                });
            }
            promised = database.transaction(outbox::unsent);
        }
    }

    private static Message message(Row row) {
        Message message = new Message(row.text("topic"), row.text("tag"), row.text("message_key"),
            (byte[]) row.values().get("body"));
        if (row.number("delay_level") > 0) {
            message.setDelayTimeLevel((int) row.number("delay_level"));
        }
        return message;
    }
}
