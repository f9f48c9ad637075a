package ringmq.driver;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
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
import org.apache.rocketmq.client.impl.consumer.RebalanceImpl;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * A group of {@code --members} members that share the {@code --queues} queues of {@code --topic} at {@code --broker}
 * ({@code room@name}) by one {@code --strategy}: averagely, circle, hash, config, room, elsewhere (the same for members
 * of another room), nearby. Members are called {@code 127.0.0.1@strategy-N} on every machine, as shares hang on names.
 */
final class Share {
    private final String topic;
    private final String group;
    private final String strategy;
    private final List<DefaultMQPushConsumer> members = new ArrayList<>();

    Share(String namesrv, String strategy, String group, Options options) throws Exception {
        this.topic = options.text("topic");
        this.group = group;
        this.strategy = strategy;
        int count = options.number("members", 3);
        for (int member = 0; member < count; member++) {
            DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
            consumer.setNamesrvAddr(namesrv);
            consumer.setClientIP("127.0.0.1");
            consumer.setInstanceName(strategy + "-" + member);
            consumer.setConsumeThreadMin(1);
            consumer.setConsumeThreadMax(1);
            consumer.setAllocateMessageQueueStrategy(allocation(member, count, options));
            consumer.subscribe(topic, "*");
            consumer.registerMessageListener(
                (MessageListenerConcurrently) (messages, context) -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
            consumer.start();
            members.add(consumer);
        }
    }

    private AllocateMessageQueueStrategy allocation(int member, int count, Options options) {
        String broker = options.text("broker");
        String room = broker.split("@")[0];
        switch (strategy) {
            case "averagely":
                return new AllocateMessageQueueAveragely();
            case "circle":
                return new AllocateMessageQueueAveragelyByCircle();
            case "hash":
                return new AllocateMessageQueueConsistentHash();
            case "room":
            case "elsewhere": {
                AllocateMessageQueueByMachineRoom byRoom = new AllocateMessageQueueByMachineRoom();
                byRoom.setConsumeridcs(Collections.singleton(strategy.equals("room") ? room : "elsewhere"));
                return byRoom;
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
                            return clientId.contains("nearby-2") ? "elsewhere" : room;
                        }
                    });
            case "config": {
                AllocateMessageQueueByConfig config = new AllocateMessageQueueByConfig();
                List<MessageQueue> own = new ArrayList<>();
                for (int queue = member; queue < options.number("queues", 7); queue += count) {
                    own.add(new MessageQueue(topic, broker, queue));
                }
                config.setMessageQueueList(own);
                return config;
            }
            default:
                throw new IllegalArgumentException(strategy);
        }
    }

    /**
     * A line {@code shared} that says who has what, as soon as every member knows of all and nothing moves any more,
     * and whom the broker names as the members.
     */
    Line settled() throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(50);
        for (DefaultMQPushConsumer member : members) {
            while (known(member).size() < members.size()) {
                if (System.nanoTime() - deadline > 0) {
                    throw new IllegalStateException("the broker names only " + known(member));
                }
                TimeUnit.MILLISECONDS.sleep(20);
            }
        }
        // Rebalances of the client's own, as notices cause them, run beside these and come to the same.
        for (List<TreeSet<Integer>> before = null, now = shares(); !now.equals(before); now = shares()) {
            for (DefaultMQPushConsumer member : members) {
                member.getDefaultMQPushConsumerImpl().doRebalance();
            }
            before = now;
        }
        return new Line("shared").with("strategy", strategy).with("members", shares())
            .with("known", known(members.get(0)));
    }

    private TreeSet<String> known(DefaultMQPushConsumer member) {
        List<String> ids = rebalance(member).getmQClientFactory().findConsumerIdList(topic, group);
        return ids == null ? new TreeSet<>() : new TreeSet<>(ids);
    }

    private static RebalanceImpl rebalance(DefaultMQPushConsumer member) {
        return member.getDefaultMQPushConsumerImpl().getRebalanceImpl();
    }

    private List<TreeSet<Integer>> shares() {
        List<TreeSet<Integer>> shares = new ArrayList<>();
        for (DefaultMQPushConsumer member : members) {
            TreeSet<Integer> share = new TreeSet<>();
            for (MessageQueue queue : rebalance(member).getProcessQueueTable().keySet()) {
                if (queue.getTopic().equals(topic)) {
                    share.add(queue.getQueueId());
                }
            }
            shares.add(share);
        }
        return shares;
    }

    void stop() {
        members.forEach(DefaultMQPushConsumer::shutdown);
    }
}
