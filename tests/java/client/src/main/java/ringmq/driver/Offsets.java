package ringmq.driver;

import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * What the broker says about each queue of {@code --topic}: a line {@code offsets} with the minimum, the maximum, the
 * time of the earliest message, the group's consume offset (-1 when there is none) and, with {@code --time}, the
 * offset at that time. {@code --commit N} first commits N for queue {@code --queue}. {@code --view ID} and
 * {@code --key KEY} look messages up.
 */
final class Offsets {
    private Offsets() {
    }

    static void run(Options options) throws Exception {
        DefaultMQPullConsumer consumer = Pull.consumer(options);
        try {
            if (options.has("commit")) {
                MessageQueue queue = Pull.queue(consumer, options);
                consumer.getDefaultMQPullConsumerImpl().getOffsetStore()
                    .updateConsumeOffsetToBroker(queue, options.number("commit", 0L), options.flag("oneway"));
            }
            for (MessageQueue queue : consumer.fetchSubscribeMessageQueues(options.text("topic"))) {
                Line line = new Line("offsets").with("queueId", queue.getQueueId())
                    .with("min", consumer.minOffset(queue))
                    .with("max", consumer.maxOffset(queue))
                    .with("earliest", consumer.earliestMsgStoreTime(queue))
                    .with("consumed", consumer.fetchConsumeOffset(queue, true));
                if (options.has("time")) {
                    line.with("atTime", consumer.searchOffset(queue, options.number("time", 0L)));
                }
                line.print();
            }
            if (options.has("view")) {
                MessageExt message = consumer.viewMessage(options.text("topic"), options.text("view"));
                new Line("message").received(message).print();
            }
            if (options.has("key")) {
                for (MessageExt message : consumer.queryMessage(options.text("topic"), options.text("key"), 32, 0,
                    Long.MAX_VALUE).getMessageList()) {
                    new Line("message").received(message).print();
                }
            }
        } finally {
            consumer.shutdown();
        }
    }
}
