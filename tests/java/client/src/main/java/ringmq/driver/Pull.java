package ringmq.driver;

import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * One plain pull of queue {@code --queue} from {@code --offset}: a line {@code pulled} with the status and the three
 * offsets, then a {@code message} each. With {@code --block true} the broker may hold the request.
 */
final class Pull {
    private Pull() {
    }

    static DefaultMQPullConsumer consumer(Options options) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(options.text("group", "driver_pull"));
        consumer.setNamesrvAddr(options.text("namesrv"));
        consumer.start();
        return consumer;
    }

    static MessageQueue queue(DefaultMQPullConsumer consumer, Options options) throws Exception {
        int wanted = options.number("queue", 0);
        for (MessageQueue queue : consumer.fetchSubscribeMessageQueues(options.text("topic"))) {
            if (queue.getQueueId() == wanted) {
                return queue;
            }
        }
        throw new IllegalArgumentException("no queue " + wanted);
    }

    static void run(Options options) throws Exception {
        DefaultMQPullConsumer consumer = consumer(options);
        try {
            MessageQueue queue = queue(consumer, options);
            String expression = options.text("sub", "*");
            long offset = options.number("offset", 0L);
            int max = options.number("max", 32);
            PullResult result = options.flag("block")
                ? consumer.pullBlockIfNotFound(queue, expression, offset, max)
                : consumer.pull(queue, expression, offset, max);
            new Line("pulled").with("status", result.getPullStatus().name())
                .with("next", result.getNextBeginOffset())
                .with("min", result.getMinOffset())
                .with("max", result.getMaxOffset())
                .print();
            if (result.getMsgFoundList() != null) {
                for (MessageExt message : result.getMsgFoundList()) {
                    new Line("message").received(message).print();
                }
            }
        } finally {
            consumer.shutdown();
        }
    }
}
