package ringmq.driver;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * A lite pull consumer of {@code --topic}, by subscription or with {@code --assign true} of all queues by hand. It
 * commits when it is told to, and says so to the broker once more when it stops.
 */
final class Lite implements Puller {
    private final DefaultLitePullConsumer consumer;
    private final String topic;
    private final boolean assigned;

    Lite(String as, String namesrv, Options options) throws Exception {
        topic = options.text("topic");
        assigned = options.flag("assign");
        consumer = new DefaultLitePullConsumer(options.text("group"));
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(as);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setAutoCommit(false);
        // One message a poll, so that what is polled is what was asked for.
        consumer.setPullBatchSize(1);
        consumer.setPersistConsumerOffsetInterval(3_600_000);
        // The first heartbeat of one that is assigned its queues would wait for half a minute.
        consumer.setHeartbeatBrokerInterval(500);
        if (!assigned) {
            consumer.subscribe(topic, options.text("sub", "*"));
        }
        consumer.start();
        if (assigned) {
            consumer.assign(consumer.fetchMessageQueues(topic));
        }
    }

    @Override
    public Line act(Options options) throws Exception {
        MessageQueue queue =
            new MessageQueue(topic, options.text("broker", "broker-a"), options.number("queue", 0));
        long offset = options.number("offset", 0L);
        switch (options.text("do")) {
            case "poll":
                return new Line("polled").with("messages", poll(options.number("count", 1)));
            case "seek":
                consumer.seek(queue, offset);
                return new Line("sought");
            case "begin":
                consumer.seekToBegin(queue);
                return new Line("sought");
            case "end":
                consumer.seekToEnd(queue);
                return new Line("sought");
            case "commit":
                // What was polled, in memory and at the broker.
                consumer.commit(queues(), true);
                return new Line("committed");
            case "commit-at":
                consumer.commitSync(Collections.singletonMap(queue, offset), true);
                return new Line("committed");
            case "committed":
                return new Line("committed").with("offset", consumer.committed(queue));
            case "at":
                return new Line("at").with("offset", consumer.offsetForTimestamp(queue, options.number("time", 0L)));
            case "queues":
                return new Line("queues").with("queues", awaitQueues(options.number("count", 1)));
            default:
                throw new IllegalArgumentException("unknown --do");
        }
    }

    private Set<MessageQueue> queues() throws Exception {
        return assigned ? Set.copyOf(consumer.fetchMessageQueues(topic)) : consumer.assignment();
    }

    /** The next messages, those of each queue in their order. */
    private Map<String, Object> poll(int count) {
        Map<String, Object> queues = new TreeMap<>();
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(50);
        for (int left = count; left > 0; ) {
            if (System.nanoTime() - deadline > 0) {
                throw new IllegalStateException(left + " of " + count + " messages did not come; there are " + queues);
            }
            for (MessageExt message : consumer.poll(500)) {
                String name = message.getQueueOffset() + " " + new String(message.getBody(), StandardCharsets.UTF_8);
                @SuppressWarnings("unchecked")
                List<String> names = (List<String>) queues.computeIfAbsent(
                    String.valueOf(message.getQueueId()), queue -> new ArrayList<String>());
                names.add(name);
                left--;
            }
        }
        return queues;
    }

    private Set<Integer> awaitQueues(int count) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(50);
        while (true) {
            Set<Integer> ids = new TreeSet<>();
            queues().forEach(queue -> ids.add(queue.getQueueId()));
            if (ids.size() == count) {
                return ids;
            }
            if (System.nanoTime() - deadline > 0) {
                throw new IllegalStateException("no " + count + " queues, but " + ids);
            }
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    @Override
    public void stop() {
        consumer.shutdown();
    }
}
