package ringmq.driver;

import java.util.Collections;
import java.util.TreeSet;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * One administrator's action, {@code --do} create-topic, delete-topic, topic-list, topic-config, route or cluster, by
 * the tools' own library: a line {@code ok} with what was asked for, or {@code refused}.
 */
final class Admin {
    private Admin() {
    }

    static void run(Options options) throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt(10_000);
        admin.setNamesrvAddr(options.text("namesrv"));
        admin.setAdminExtGroup(options.text("group", "driver_admin"));
        admin.start();
        try {
            act(admin, options).print();
        } catch (org.apache.rocketmq.client.exception.MQBrokerException
            | org.apache.rocketmq.client.exception.MQClientException e) {
            new Line("refused").error(e).print();
        } finally {
            admin.shutdown();
        }
    }

    private static Line act(DefaultMQAdminExt admin, Options options) throws Exception {
        switch (options.text("do")) {
            case "create-topic": {
                TopicConfig topic = new TopicConfig(options.text("topic"));
                topic.setReadQueueNums(options.number("queues", 8));
                topic.setWriteQueueNums(options.number("queues", 8));
                topic.setPerm(options.number("perm", 6));
                admin.createAndUpdateTopicConfig(options.text("broker"), topic);
                return new Line("ok");
            }
            case "delete-topic":
                admin.deleteTopicInBroker(Collections.singleton(options.text("broker")), options.text("topic"));
                admin.deleteTopicInNameServer(Collections.singleton(options.text("namesrv")),
                    options.text("cluster", "DefaultCluster"), options.text("topic"));
                return new Line("ok");
            case "topic-list":
                return new Line("ok").with("topics", new TreeSet<>(admin.fetchAllTopicList().getTopicList()));
            case "topic-config": {
                TopicConfig topic = admin.examineTopicConfig(options.text("broker"), options.text("topic"));
                return new Line("ok").with("read", topic.getReadQueueNums()).with("write", topic.getWriteQueueNums())
                    .with("perm", topic.getPerm());
            }
            case "route":
                return route(admin, options.text("topic"));
            case "cluster":
                return cluster(admin);
            default:
                throw new IllegalArgumentException("unknown --do");
        }
    }

    private static Line route(DefaultMQAdminExt admin, String topic) throws Exception {
        var route = admin.examineTopicRouteInfo(topic);
        TreeSet<String> brokers = new TreeSet<>();
        TreeSet<String> queues = new TreeSet<>();
        for (var broker : route.getBrokerDatas()) {
            broker.getBrokerAddrs().forEach((id, address) -> brokers.add(broker.getBrokerName() + "/" + id + "/" + address));
        }
        for (var queue : route.getQueueDatas()) {
            queues.add(queue.getBrokerName() + "/" + queue.getReadQueueNums() + "/" + queue.getWriteQueueNums() + "/"
                + queue.getPerm());
        }
        return new Line("ok").with("brokers", brokers).with("queues", queues);
    }

    private static Line cluster(DefaultMQAdminExt admin) throws Exception {
        var cluster = admin.examineBrokerClusterInfo();
        TreeSet<String> brokers = new TreeSet<>();
        for (var broker : cluster.getBrokerAddrTable().values()) {
            broker.getBrokerAddrs().forEach((id, address) -> brokers.add(broker.getBrokerName() + "/" + id + "/" + address));
        }
        return new Line("ok").with("brokers", brokers);
    }
}
