package ringmq.driver;

import java.util.Collection;
import java.util.Collections;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * A lite pull consumer of {@code --topic}: by subscription, or with {@code --assign true} of all queues by hand. Polls
 * until {@code --count} messages came or {@code --wait} milliseconds passed without any, each a line {@code message}.
 * With {@code --seek} it then goes to that offset and polls {@code --again} messages, each a line {@code again}. At its
 * end it commits.
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
            Collection<MessageQueue> queues = Collections.emptyList();
            if (assign) {
                queues = consumer.fetchMessageQueues(topic);
                consumer.assign(queues);
            }
            new Line("started").print();
            poll(consumer, "message", options.number("count", Integer.MAX_VALUE), options);
            if (options.has("seek")) {
                for (MessageQueue queue : queues) {
                    consumer.seek(queue, options.number("seek", 0L));
                }
                poll(consumer, "again", options.number("again", 1), options);
            }
            commit(consumer);
        } finally {
            consumer.shutdown();
        }
    }

    private static void poll(DefaultLitePullConsumer consumer, String event, int count, Options options) {
        int left = count;
        long patience = options.number("wait", 20_000L);
        long idleSince = System.currentTimeMillis();
        while (left > 0 && System.currentTimeMillis() - idleSince < patience) {
            for (MessageExt message : consumer.poll(500)) {
                new Line(event).received(message).print();
                left--;
                idleSince = System.currentTimeMillis();
            }
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
