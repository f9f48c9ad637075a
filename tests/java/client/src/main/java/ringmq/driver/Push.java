package ringmq.driver;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * A push consumer of {@code --topic} in {@code --group}: a line {@code started}, one {@code message} each, one
 * {@code assigned} whenever its queues of the topic change, or one {@code refused} if it cannot start. With
 * {@code --told true} also one {@code notice} whenever the broker tells it that its group has changed, and one {@code locked}
 * with the number of its {@code queues} of the topic whenever the broker grants locks. Ends after
 * {@code --count} messages, or when standard input ends or says anything but {@code sql} and an expression, which changes
 * the subscription. {@code --orderly true} consumes a queue at a time under the broker's locks;
 * {@code --broadcast true} gets every message on its own; {@code --since} is a time for {@code --from}
 * CONSUME_FROM_TIMESTAMP; {@code --fail-first true} hands each message back once; {@code --sql} filters by properties instead
 * of {@code --sub}.
 */
final class Push {
    private static final int NOTIFY_CONSUMER_IDS_CHANGED = 40;
    private static final int LOCK_BATCH_MQ = 41;

    private final Options options;
    private final CountDownLatch end = new CountDownLatch(1);
    private final AtomicInteger left;
    private final Set<String> failed = ConcurrentHashMap.newKeySet();

    private Push(Options options) {
        this.options = options;
        this.left = new AtomicInteger(options.number("count", Integer.MAX_VALUE));
    }

    static void run(Options options) throws Exception {
        new Push(options).consume();
    }

    private void consume() throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(options.text("group", "driver_consumer"),
            options.flag("told") ? new Told() : null, new AllocateMessageQueueAveragely(), options.flag("trace"), null);
        Send.asTold(consumer, options);
        if (options.flag("broadcast")) {
            // The versions keep it in different packages.
            consumer.setMessageModel(Enum.valueOf(consumer.getMessageModel().getDeclaringClass(), "BROADCASTING"));
        }
        if (options.has("since")) {
            consumer.setConsumeTimestamp(options.text("since"));
        }
        consumer.setNamesrvAddr(options.text("namesrv"));
        consumer.setConsumeFromWhere(ConsumeFromWhere.valueOf(
            options.text("from", "CONSUME_FROM_FIRST_OFFSET")));
        consumer.setConsumeThreadMin(options.number("threads", 4));
        consumer.setConsumeThreadMax(options.number("threads", 4));
        consumer.setConsumeMessageBatchMaxSize(options.number("batch", 1));
        consumer.setPullBatchSize(options.number("pull-batch", 32));
        // What a listener has seen is to be counted as consumed before the offsets are kept for the last time.
        consumer.setAwaitTerminationMillisWhenShutdown(options.number("await", 5_000));
        consumer.setPersistConsumerOffsetInterval(options.number("persist", 5_000));
        String topic = options.text("topic");
        if (options.has("sql")) {
            consumer.subscribe(topic, MessageSelector.bySql(options.text("sql")));
        } else {
            consumer.subscribe(topic, options.text("sub", "*"));
        }
        if (options.flag("orderly")) {
            consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                messages.forEach(this::received);
                return ConsumeOrderlyStatus.SUCCESS;
            });
        } else {
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                boolean good = true;
                for (MessageExt message : messages) {
                    good &= received(message);
                }
                return good ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER;
            });
        }
        try {
            consumer.start();
        } catch (MQClientException e) {
            new Line("refused").error(e).print();
            consumer.shutdown();
            return;
        }
        new Line("started").with("clientId", consumer.buildMQClientId()).print();
        followInput(consumer, topic);
        watchAssignment(consumer, topic);
        consumer.shutdown();
    }

    private boolean received(MessageExt message) {
        boolean hold = options.flag("fail-first") && failed.add(message.getMsgId());
        new Line(hold ? "handed-back" : "message").received(message).print();
        if (!hold && left.decrementAndGet() == 0) {
            end.countDown();
        }
        return !hold;
    }

    /** A line {@code sql <expression>} changes the subscription; any other, and the input's end, ends the run. */
    private void followInput(DefaultMQPushConsumer consumer, String topic) {
        Thread reader = new Thread(() -> {
            BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            try {
                for (String line = input.readLine(); line != null && line.startsWith("sql "); line = input.readLine()) {
                    consumer.subscribe(topic, MessageSelector.bySql(line.substring(4)));
                    new Line("subscribed").with("sql", line.substring(4)).print();
                }
            } catch (IOException | MQClientException e) {
                e.printStackTrace();
            }
            end.countDown();
        }, "input");
        reader.setDaemon(true);
        reader.start();
    }

    /** The client tells nobody about its queues in a way that both versions share, so its table is looked at. */
    private void watchAssignment(DefaultMQPushConsumer consumer, String topic) throws InterruptedException {
        Set<Integer> before = null;
        do {
            Set<Integer> now = new TreeSet<>();
            for (MessageQueue queue : consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable()
                .keySet()) {
                if (queue.getTopic().equals(topic)) {
                    now.add(queue.getQueueId());
                }
            }
            if (!now.equals(before)) {
                new Line("assigned").with("queues", now).print();
                before = now;
            }
        } while (!end.await(100, TimeUnit.MILLISECONDS));
    }

    private final class Told extends Hook {
        @Override
        public void doBeforeRequest(String address, RemotingCommand request) {
            if (request.getCode() == NOTIFY_CONSUMER_IDS_CHANGED) {
                new Line("notice").with("group", request.getExtFields().get("consumerGroup")).print();
            }
        }

        @Override
        public void doAfterResponse(String address, RemotingCommand request, RemotingCommand response) {
            if (request.getCode() == LOCK_BATCH_MQ && response.getBody() != null) {
                // The versions keep the body's class in different packages.
                String granted = new String(response.getBody(), StandardCharsets.UTF_8);
                String topic = "\"topic\"\\s*:\\s*\"" + Pattern.quote(options.text("topic")) + "\"";
                new Line("locked").with("queues", granted.split(topic, -1).length - 1).print();
            }
        }
    }
}
