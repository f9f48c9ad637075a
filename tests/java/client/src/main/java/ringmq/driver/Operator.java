package ringmq.driver;

import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * What an operator asks about {@code --group} and {@code --topic} or of a running consumer ({@code --client}), by the
 * tools' own library: {@code --do} reset, status, running, direct ({@code --id}),
 * stats, span, clone, who. A line {@code ok} with what came
 * back, or {@code refused}.
 */
final class Operator {
    private Operator() {
    }

    static void run(Options options) throws Exception {
        Tools.run(options, "driver_operator", admin -> act(admin, options).print());
    }

    private static Line act(DefaultMQAdminExt admin, Options options) throws Exception {
        String group = options.text("group");
        String topic = options.text("topic");
        switch (options.text("do")) {
            case "reset":
                return new Line("ok").with("offsets", byQueue(
                    admin.resetOffsetByTimestamp(topic, group, options.number("time", 0L), true)));
            case "status": {
                Map<String, Object> clients = new TreeMap<>();
                admin.getConsumeStatus(topic, group, options.text("client", ""))
                    .forEach((client, table) -> clients.put(client, byQueue(table)));
                return new Line("ok").with("clients", clients);
            }
            case "running": {
                var info = admin.getConsumerRunningInfo(group, options.text("client"), true);
                TreeSet<String> topics = new TreeSet<>();
                info.getSubscriptionSet().forEach(subscription -> topics.add(subscription.getTopic()));
                return new Line("ok").with("topics", topics).with("queues", info.getMqTable().size())
                    .with("jstack", info.getJstack().length());
            }
            case "direct": {
                var result = admin.consumeMessageDirectly(group, options.text("client"), topic, options.text("id"));
                return new Line("ok").with("result", result.getConsumeResult().name()).with("order", result.isOrder());
            }
            case "stats": {
                Map<String, Object> queues = new TreeMap<>();
                var stats = admin.examineConsumeStats(group);
                stats.getOffsetTable().forEach((queue, offsets) -> {
                    if (queue.getTopic().equals(topic)) {
                        queues.put(String.valueOf(queue.getQueueId()),
                            offsets.getConsumerOffset() + "/" + offsets.getBrokerOffset());
                    }
                });
                return new Line("ok").with("queues", queues).with("behind", stats.computeTotalDiff());
            }
            case "span": {
                Map<String, Object> queues = new TreeMap<>();
                admin.queryConsumeTimeSpan(topic, group).forEach(span -> queues.put(
                    String.valueOf(span.getMessageQueue().getQueueId()),
                    new TreeMap<>(Map.of("min", span.getMinTimeStamp(), "max", span.getMaxTimeStamp(), "consumed",
                        span.getConsumeTimeStamp(), "delay", span.getDelayTime()))));
                return new Line("ok").with("queues", queues);
            }
            case "clone":
                admin.cloneGroupOffset(group, options.text("to"), topic, true);
                return new Line("ok");
            case "who":
                return new Line("ok").with("groups", new TreeSet<>(admin.queryTopicConsumeByWho(topic).getGroupList()));
            default:
                throw new IllegalArgumentException("unknown --do");
        }
    }

    private static Map<String, Object> byQueue(Map<MessageQueue, Long> table) {
        Map<String, Object> queues = new TreeMap<>();
        table.forEach((queue, offset) -> queues.put(String.valueOf(queue.getQueueId()), offset));
        return queues;
    }
}
