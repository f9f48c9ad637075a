package ringmq.driver;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.client.consumer.AllocateMessageQueueStrategy;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMachineRoomNearby;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragelyByCircle;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueByConfig;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueByMachineRoom;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueConsistentHash;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Three members of a group for each way in which clients share {@code --queues} queues of {@code --topic} at broker
 * {@code --broker} ({@code room@name}): once each group has every queue exactly once, a line {@code shared} that says
 * who has what. By configuration the members take what they are told to, two each and three.
 */
final class Strategies {
    private static final int MEMBERS = 3;

    private Strategies() {
    }

    private static AllocateMessageQueueStrategy strategy(String name, int member, Options options) {
        String broker = options.text("broker");
        switch (name) {
            case "averagely":
                return new AllocateMessageQueueAveragely();
            case "circle":
                return new AllocateMessageQueueAveragelyByCircle();
            case "hash":
                return new AllocateMessageQueueConsistentHash();
            case "room": {
                AllocateMessageQueueByMachineRoom room = new AllocateMessageQueueByMachineRoom();
                room.setConsumeridcs(Collections.singleton(broker.split("@")[0]));
                return room;
            }
            case "nearby":
                return new AllocateMachineRoomNearby(new AllocateMessageQueueAveragely(),
                    new AllocateMachineRoomNearby.MachineRoomResolver() {
                        @Override
                        public String brokerDeployIn(MessageQueue queue) {
                            return queue.getBrokerName().split("@")[0];
                        }

                        @Override
                        public String consumerDeployIn(String clientId) {
                            // The third member lives elsewhere and gets nothing.
                            return clientId.contains("nearby-2") ? "elsewhere" : broker.split("@")[0];
                        }
                    });
            case "config": {
                AllocateMessageQueueByConfig config = new AllocateMessageQueueByConfig();
                List<MessageQueue> own = new ArrayList<>();
                for (int queue = member; queue < options.number("queues", 7); queue += MEMBERS) {
                    own.add(new MessageQueue(options.text("topic"), broker, queue));
                }
                config.setMessageQueueList(own);
                return config;
            }
            default:
                throw new IllegalArgumentException(name);
        }
    }

    static void run(Options options) throws Exception {
        Map<String, List<DefaultMQPushConsumer>> groups = new TreeMap<>();
        for (String name : new String[] {"averagely", "circle", "hash", "room", "nearby", "config"}) {
            List<DefaultMQPushConsumer> members = new ArrayList<>();
            for (int member = 0; member < MEMBERS; member++) {
                DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("strategy_" + name);
                consumer.setNamesrvAddr(options.text("namesrv"));
                consumer.setInstanceName(name + "-" + member);
                consumer.setConsumeThreadMin(1);
                consumer.setConsumeThreadMax(1);
                consumer.setAllocateMessageQueueStrategy(strategy(name, member, options));
                consumer.subscribe(options.text("topic"), "*");
                consumer.registerMessageListener(
                    (MessageListenerConcurrently) (messages, context) -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
                consumer.start();
                members.add(consumer);
            }
            groups.put(name, members);
        }
        for (Map.Entry<String, List<DefaultMQPushConsumer>> group : groups.entrySet()) {
            new Line("shared").with("strategy", group.getKey()).with("members", settled(group.getValue(), options)).print();
        }
        groups.values().forEach(members -> members.forEach(DefaultMQPushConsumer::shutdown));
    }

    /** What each member has, as soon as all queues are shared out, each to one. */
    private static List<List<Integer>> settled(List<DefaultMQPushConsumer> members, Options options) throws Exception {
        long until = System.currentTimeMillis() + options.number("wait", 60_000L);
        while (true) {
            List<List<Integer>> shares = new ArrayList<>();
            List<Integer> all = new ArrayList<>();
            for (DefaultMQPushConsumer member : members) {
                List<Integer> share = new ArrayList<>();
                for (MessageQueue queue : member.getDefaultMQPushConsumerImpl().getRebalanceImpl()
                    .getProcessQueueTable().keySet()) {
                    if (queue.getTopic().equals(options.text("topic"))) {
                        share.add(queue.getQueueId());
                    }
                }
                Collections.sort(share);
                shares.add(share);
                all.addAll(share);
            }
            Collections.sort(all);
            boolean everyOnce = all.size() == options.number("queues", 7)
                && all.stream().distinct().count() == all.size();
            boolean spread = shares.stream().filter(share -> !share.isEmpty()).count() >= 2;
            if ((everyOnce && spread) || System.currentTimeMillis() > until) {
                return shares;
            }
            Thread.sleep(100);
        }
    }
}
