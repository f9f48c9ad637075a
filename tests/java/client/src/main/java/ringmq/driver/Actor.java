package ringmq.driver;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * A push consumer that answers the deliveries of a message one after the other as {@code --answers} says: {@code ok},
 * {@code later} (the broker chooses when), {@code later:N} (level N; -1 means never again), {@code suspend}
 * (in order only). The last answer is {@code ok} for ever. One line {@code message} a delivery. With {@code --reply} it
 * answers requests with that body, and says {@code replied}. {@code --at} is the time for {@code --from}
 * CONSUME_FROM_TIMESTAMP in milliseconds; with {@code --assigned N} the command ends when it has N queues of its topic.
 * With {@code --broadcast true} every member gets every message and keeps its own offsets.
 */
final class Actor {
    private final String as;
    private final Options options;
    private final Map<String, Integer> deliveries = new ConcurrentHashMap<>();
    private final DefaultMQPushConsumer consumer;
    private DefaultMQProducer replier;

    Actor(String as, String namesrv, Options options) throws Exception {
        this.as = as;
        this.options = options;
        consumer = new DefaultMQPushConsumer(options.text("group"), options.flag("trace"), Stage.traceTopic(options));
        consumer.setNamesrvAddr(namesrv);
        if (options.has("namespace")) {
            consumer.setNamespace(options.text("namespace"));
        }
        if (options.has("reply")) {
            replier = new DefaultMQProducer(as + "_replier");
            replier.setNamesrvAddr(namesrv);
            replier.start();
        }
        consumer.setInstanceName(options.text("instance", as));
        consumer.setConsumeFromWhere(ConsumeFromWhere.valueOf(options.text("from", "CONSUME_FROM_FIRST_OFFSET")));
        if (options.has("at")) {
            consumer.setConsumeTimestamp(UtilAll.timeMillisToHumanString3(options.number("at", 0L)));
        }
        if (options.flag("broadcast")) {
            // The versions keep the class in different packages.
            consumer.setMessageModel(Enum.valueOf(consumer.getMessageModel().getDeclaringClass(), "BROADCASTING"));
        }
        consumer.setPollNameServerInterval(options.number("poll", 30_000));
        consumer.setConsumeThreadMin(1);
        consumer.setConsumeThreadMax(1);
        consumer.setAwaitTerminationMillisWhenShutdown(5_000);
        consumer.setPersistConsumerOffsetInterval(200);
        consumer.setSuspendCurrentQueueTimeMillis(100);
        consumer.setMaxReconsumeTimes(options.number("max-reconsume", -1));
        if (options.has("sql")) {
            consumer.subscribe(options.text("topic"), MessageSelector.bySql(options.text("sql")));
        } else {
            consumer.subscribe(options.text("topic"), options.text("sub", "*"));
        }
        if (options.flag("orderly")) {
            consumer.registerMessageListener((MessageListenerOrderly) this::inOrder);
        } else {
            consumer.registerMessageListener((MessageListenerConcurrently) this::atOnce);
        }
        try {
            consumer.start();
        } catch (MQClientException e) {
            // One that is refused goes on sending heartbeats, and so keeps queues of its group, until it is shut down.
            stop();
            throw e;
        }
        if (options.has("assigned")) {
            awaitQueues(options.text("topic"), options.number("assigned", 1));
        }
    }

    /** Waits until it has so many queues. A queue is its own only when it is decided where it begins there. */
    private void awaitQueues(String topic, int count) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(50);
        while (consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet().stream()
            .filter(queue -> queue.getTopic().equals(topic)).count() < count) {
            if (System.nanoTime() - deadline > 0) {
                throw new IllegalStateException("no " + count + " queues of " + topic);
            }
            TimeUnit.MILLISECONDS.sleep(20);
        }
    }

    void stop() {
        consumer.shutdown();
        if (replier != null) {
            replier.shutdown();
        }
    }

    private String answer(MessageExt message) {
        String name = new String(message.getBody(), StandardCharsets.UTF_8);
        String[] answers = options.text("answers", "ok").split(",");
        int delivery = deliveries.merge(name, 1, Integer::sum);
        new Line("message").with("as", as).whole(message).print();
        if (replier != null) {
            reply(message);
        }
        return delivery <= answers.length ? answers[delivery - 1] : "ok";
    }

    private void reply(MessageExt message) {
        try {
            byte[] body = options.text("reply").getBytes(StandardCharsets.UTF_8);
            new Line("replied").with("as", as).with("name", options.text("reply"))
                .sent(replier.send(MessageUtil.createReplyMessage(message, body))).print();
        } catch (Exception e) {
            new Line("refused").with("as", as).error(e).print();
        }
    }

    private ConsumeConcurrentlyStatus atOnce(List<MessageExt> messages, ConsumeConcurrentlyContext context) {
        String answer = answer(messages.get(0));
        if (answer.equals("ok")) {
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        }
        if (answer.startsWith("later:")) {
            context.setDelayLevelWhenNextConsume(Integer.parseInt(answer.substring("later:".length())));
        }
        return ConsumeConcurrentlyStatus.RECONSUME_LATER;
    }

    private ConsumeOrderlyStatus inOrder(List<MessageExt> messages, ConsumeOrderlyContext context) {
        return answer(messages.get(0)).equals("ok")
            ? ConsumeOrderlyStatus.SUCCESS : ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
    }
}
