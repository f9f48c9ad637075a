package ringmq.driver;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** A plain pull consumer of {@code --topic}, which with {@code --register true} takes part in sharing its queues. */
final class Plain implements Puller {
    private final DefaultMQPullConsumer consumer;
    private final String topic;
    private MessageExt last;

    Plain(String as, String namesrv, Options options) throws Exception {
        topic = options.text("topic");
        consumer = new DefaultMQPullConsumer(options.text("group"));
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(as);
        // Offsets of queues that the client did not get by sharing are forgotten when it keeps them by itself.
        consumer.setPersistConsumerOffsetInterval(3_600_000);
        consumer.setBrokerSuspendMaxTimeMillis(500);
        // The first heartbeat would wait for half a minute, as it does not know the broker before it pulls.
        consumer.setHeartbeatBrokerInterval(500);
        if (options.flag("register")) {
            consumer.setRegisterTopics(Collections.singleton(topic));
        }
        consumer.start();
    }

    @Override
    public Line act(Options options) throws Exception {
        MessageQueue queue =
            new MessageQueue(topic, options.text("broker", "broker-a"), options.number("queue", 0));
        long offset = options.number("offset", 0L);
        switch (options.text("do")) {
            case "queues":
                return new Line("queues").with("queues", ids(consumer.fetchSubscribeMessageQueues(topic)));
            case "mine":
                return new Line("queues").with("queues", awaitMine(options.number("count", 1)));
            case "pull":
                return pulled(consumer.pull(queue, options.text("sub", "*"), offset, options.number("max", 32)));
            case "wait":
                return pulled(
                    consumer.pullBlockIfNotFound(queue, options.text("sub", "*"), offset, options.number("max", 32)));
            case "commit":
                consumer.updateConsumeOffset(queue, offset);
                consumer.persist(queue);
                return new Line("committed");
            case "committed":
                return new Line("committed").with("offset", consumer.fetchConsumeOffset(queue, options.flag("store")));
            case "offsets":
                return new Line("offsets").with("min", consumer.minOffset(queue)).with("max", consumer.maxOffset(queue))
                    .with("atZero", consumer.searchOffset(queue, 0))
                    .with("atEnd", consumer.searchOffset(queue, System.currentTimeMillis() + 3_600_000));
            case "back":
                consumer.sendMessageBack(last, options.number("level", 0));
                return new Line("sentBack");
            default:
                throw new IllegalArgumentException("unknown --do");
        }
    }

    private Line pulled(PullResult result) {
        List<String> names = new ArrayList<>();
        if (result.getMsgFoundList() != null) {
            for (MessageExt message : result.getMsgFoundList()) {
                names.add(message.getQueueOffset() + " " + new String(message.getBody(), StandardCharsets.UTF_8));
                last = message;
            }
        }
        return new Line("pulled").with("status", result.getPullStatus().name())
            .with("next", result.getNextBeginOffset()).with("min", result.getMinOffset())
            .with("max", result.getMaxOffset()).with("messages", names);
    }

    private Set<Integer> awaitMine(int count) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(50);
        while (true) {
            Set<Integer> ids = ids(consumer.fetchMessageQueuesInBalance(topic));
            if (ids.size() == count) {
                return ids;
            }
            if (System.nanoTime() - deadline > 0) {
                throw new IllegalStateException("no " + count + " queues, but " + ids);
            }
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    private static Set<Integer> ids(Set<MessageQueue> queues) {
        Set<Integer> ids = new TreeSet<>();
        queues.forEach(queue -> ids.add(queue.getQueueId()));
        return ids;
    }

    @Override
    public void stop() {
        consumer.shutdown();
    }
}
