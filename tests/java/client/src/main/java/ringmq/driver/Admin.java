package ringmq.driver;

import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyRemotingClient;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RemotingSerializable;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * One administrator's action, {@code --do} create-topic, delete-topic, topic-list, topic-config, route, cluster,
 * resume-check or delay-offsets, by the tools' own library: a line {@code ok} with what was asked for, or {@code refused}.
 */
final class Admin {
    private static final int GET_ALL_DELAY_OFFSET = 45;

    private Admin() {
    }

    static void run(Options options) throws Exception {
        Tools.run(options, options.text("group", "driver_admin"), admin -> act(admin, options).print());
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
                deleteInNameServer(admin, options.text("namesrv"), options.text("cluster", "DefaultCluster"), options.text("topic"));
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
            case "resume-check":
                return new Line("ok").with("done", admin.resumeCheckHalfMessage(options.text("topic"), options.text("id")));
            case "delay-offsets":
                return delayOffsets(options.text("broker"));
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

    /** What a slave asks its master: no tool does, so it is asked by hand. */
    private static Line delayOffsets(String broker) throws Exception {
        NettyRemotingClient client = new NettyRemotingClient(new NettyClientConfig());
        client.start();
        try {
            RemotingCommand reply = client.invokeSync(broker, RemotingCommand.createRequestCommand(GET_ALL_DELAY_OFFSET, null), 10_000);
            if (reply.getCode() != 0) {
                return new Line("refused").with("code", reply.getCode()).with("remark", reply.getRemark());
            }
            Map<?, ?> body = RemotingSerializable.decode(reply.getBody(), Map.class);
            TreeMap<String, Object> levels = new TreeMap<>();
            ((Map<?, ?>) body.get("offsetTable")).forEach((level, offset) -> levels.put(String.valueOf(level), offset));
            return new Line("ok").with("levels", levels);
        } finally {
            client.shutdown();
        }
    }

    /** The last two arguments changed places between the two versions. */
    private static void deleteInNameServer(DefaultMQAdminExt admin, String server, String cluster, String topic)
        throws Exception {
        boolean old = MQVersion.getVersionDesc(MQVersion.CURRENT_VERSION).startsWith("V4");
        admin.deleteTopicInNameServer(Collections.singleton(server), old ? topic : cluster, old ? cluster : topic);
    }
}
