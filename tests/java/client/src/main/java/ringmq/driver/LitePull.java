package ringmq.driver;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * A lite pull consumer of {@code --topic}: by subscription, or with {@code --assign true} of all queues by hand, then
 * from {@code --seek} when given. Polls until {@code --count} messages came or {@code --wait} milliseconds passed
 * without any; then commits what it polled.
 */
final class LitePull {
    private LitePull() {
    }

    static void run(Options options) throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(options.text("group", "driver_lite"));
        consumer.setNamesrvAddr(options.text("namesrv"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setAutoCommit(false);
        String topic = options.text("topic");
        boolean assign = options.flag("assign");
        if (!assign) {
            consumer.subscribe(topic, options.text("sub", "*"));
        }
        consumer.start();
        try {
            if (assign) {
                Collection<MessageQueue> queues = consumer.fetchMessageQueues(topic);
                List<MessageQueue> all = new ArrayList<>(queues);
                consumer.assign(all);
                if (options.has("seek")) {
                    for (MessageQueue queue : all) {
                        consumer.seek(queue, options.number("seek", 0L));
                    }
                }
            }
            new Line("started").print();
            int left = options.number("count", Integer.MAX_VALUE);
            long patience = options.number("wait", 20_000L);
            long idleSince = System.currentTimeMillis();
            while (left > 0 && System.currentTimeMillis() - idleSince < patience) {
                for (MessageExt message : consumer.poll(500)) {
                    new Line("message").received(message).print();
                    left--;
                    idleSince = System.currentTimeMillis();
                }
            }
            commit(consumer);
        } finally {
            consumer.shutdown();
        }
    }

    /** 4.9 names it commitSync, 5.x commit; both then persist at shutdown. */
    private static void commit(DefaultLitePullConsumer consumer) throws Exception {
        try {
            DefaultLitePullConsumer.class.getMethod("commit").invoke(consumer);
        } catch (NoSuchMethodException e) {
            DefaultLitePullConsumer.class.getMethod("commitSync").invoke(consumer);
        }
    }
}
