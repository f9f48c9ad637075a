package ringmq.driver;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.impl.consumer.RebalanceImpl;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * A member of {@code --group} that takes queue locks by command: each line on standard input is {@code lock N},
 * {@code unlock N} or {@code end}; a lock answers with a line {@code lock} that says whether it was granted. It
 * subscribes another topic ({@code --own}) than the one it locks, so that its own rebalance stays out of the way.
 */
final class Lock {
    private Lock() {
    }

    static void run(Options options) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(options.text("group"));
        consumer.setNamesrvAddr(options.text("namesrv"));
        consumer.setInstanceName(options.text("instance"));
        consumer.subscribe(options.text("own"), "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> ConsumeOrderlyStatus.SUCCESS);
        consumer.start();
        RebalanceImpl rebalance = consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl();
        new Line("started").with("clientId", consumer.buildMQClientId()).print();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null && !line.equals("end"); line = input.readLine()) {
            String[] words = line.split(" ");
            MessageQueue queue =
                new MessageQueue(options.text("topic"), options.text("broker"), Integer.parseInt(words[1]));
            if (words[0].equals("lock")) {
                new Line("lock").with("queueId", queue.getQueueId()).with("granted", rebalance.lock(queue)).print();
            } else {
                rebalance.unlock(queue, false);
                new Line("unlock").with("queueId", queue.getQueueId()).print();
            }
        }
        consumer.shutdown();
    }
}
