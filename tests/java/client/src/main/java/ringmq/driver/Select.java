package ringmq.driver;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Plain pulls of queue {@code --queue} from its start to its end, once for each of the SQL92 expressions that stand in
 * {@code --sql} with two semicolons between them: a line {@code selected} with the messages' names and the number of
 * pulls, or {@code refused}.
 */
final class Select {
    private Select() {
    }

    static void run(Options options) throws Exception {
        DefaultMQPullConsumer consumer = Pull.consumer(options);
        try {
            MessageQueue queue = Pull.queue(consumer, options);
            meet(consumer, queue);
            for (String sql : options.text("sql").split(";;")) {
                try {
                    all(consumer, queue, sql.trim()).print();
                } catch (MQBrokerException e) {
                    new Line("refused").with("sql", sql.trim()).error(e).print();
                }
            }
        } finally {
            consumer.shutdown();
        }
    }

    /**
     * A client asks for SQL92 only once it knows the broker's version, which the answer to a heartbeat tells; it sends one
     * only to brokers that it has met, and none while another thread of its does.
     */
    private static void meet(DefaultMQPullConsumer consumer, MessageQueue queue) throws Exception {
        consumer.pull(queue, "*", 0, 1);
        MQClientInstance client = consumer.getDefaultMQPullConsumerImpl().getRebalanceImpl().getmQClientFactory();
        for (int attempt = 0; attempt < 200; attempt++) {
            client.sendHeartbeatToAllBrokerWithLock();
            if (client.findBrokerAddressInSubscribe(queue.getBrokerName(), 0, false).getBrokerVersion() > 0) {
                return;
            }
            Thread.sleep(50);
        }
        throw new IllegalStateException("no heartbeat was answered");
    }

    private static Line all(DefaultMQPullConsumer consumer, MessageQueue queue, String sql) throws Exception {
        List<String> names = new ArrayList<>();
        long offset = 0;
        long end;
        int pulls = 0;
        do {
            PullResult result = consumer.pull(queue, MessageSelector.bySql(sql), offset, 32);
            if (result.getMsgFoundList() != null) {
                for (MessageExt message : result.getMsgFoundList()) {
                    String body = new String(message.getBody(), StandardCharsets.UTF_8);
                    names.add(body.substring(0, body.indexOf('|')));
                }
            }
            offset = result.getNextBeginOffset();
            end = result.getMaxOffset();
            pulls++;
        } while (offset < end);
        return new Line("selected").with("sql", sql).with("names", names).with("pulls", pulls);
    }
}
