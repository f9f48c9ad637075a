package ringmq.driver;

import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * A transactional producer whose local branch says {@code --local} commit, rollback, unknown or throw, and which
 * answers the broker's questions one after the other as {@code --checks} says, after that for ever with unknown. One
 * line {@code checked} a question.
 */
final class Checked implements TransactionListener {
    private static final Map<String, LocalTransactionState> STATES = new HashMap<>();

    static {
        STATES.put("commit", LocalTransactionState.COMMIT_MESSAGE);
        STATES.put("rollback", LocalTransactionState.ROLLBACK_MESSAGE);
        STATES.put("unknown", LocalTransactionState.UNKNOW);
    }

    private final TransactionMQProducer producer;
    /** What to answer, by the messages' bodies. */
    private final Map<String, String[]> checks = new ConcurrentHashMap<>();
    private final Map<String, Integer> asked = new ConcurrentHashMap<>();

    // The constructor that both versions have.
    @SuppressWarnings("deprecation")
    Checked(String namesrv, String group, Options options) {
        producer = new TransactionMQProducer(null, group, null, options.flag("trace"), Stage.traceTopic(options));
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName(options.text("instance", group));
        producer.setRetryTimesWhenSendFailed(0);
        producer.setTransactionListener(this);
        // Several threads would take the broker's questions out of their order.
        producer.setClientCallbackExecutorThreads(1);
        try {
            producer.start();
            // It sends a heartbeat within a second otherwise, and who is not known then is not asked.
            MQClientInstance client = producer.getDefaultMQProducerImpl().getMqClientFactory();
            client.updateTopicRouteInfoFromNameServer(options.text("topic"));
            client.sendHeartbeatToAllBrokerWithLock();
        } catch (MQClientException e) {
            throw new IllegalStateException(e);
        }
    }

    void stop() {
        producer.shutdown();
    }

    void send(String as, Message message, Options options) throws Exception {
        String name = new String(message.getBody(), StandardCharsets.UTF_8);
        checks.put(name, options.text("checks", "unknown").split(","));
        TransactionSendResult result = producer.sendMessageInTransaction(message, options.text("local", "commit"));
        new Line("sent").with("as", as).with("name", name).sent(result)
            .with("transactionId", result.getTransactionId())
            .with("state", result.getLocalTransactionState().name()).print();
    }

    @Override
    public LocalTransactionState executeLocalTransaction(Message message, Object local) {
        if (local.equals("throw")) {
            throw new IllegalStateException("the local branch fails");
        }
        return STATES.get(local);
    }

    @Override
    public LocalTransactionState checkLocalTransaction(MessageExt message) {
        String name = new String(message.getBody(), StandardCharsets.UTF_8);
        int question = asked.merge(name, 1, Integer::sum);
        new Line("checked").with("as", name).whole(message)
            .with("transactionId", message.getTransactionId()).with("askedMs", System.currentTimeMillis()).print();
        String[] answers = checks.getOrDefault(name, new String[0]);
        return question <= answers.length ? STATES.get(answers[question - 1]) : LocalTransactionState.UNKNOW;
    }
}
