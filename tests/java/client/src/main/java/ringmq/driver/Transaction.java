package ringmq.driver;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Sends {@code --count} transactional messages whose local branch says {@code --state} commit, rollback or unknown;
 * an unknown one is committed when the broker asks, unless {@code --answer} says unknown, too. With {@code --held} a
 * local branch is done when a line comes in. Waits {@code --wait} milliseconds for {@code --asks} questions.
 */
final class Transaction {
    private Transaction() {
    }

    static void run(Options options) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(options.text("group", "driver_transaction"));
        producer.setNamesrvAddr(options.text("namesrv"));
        CountDownLatch asked = new CountDownLatch(options.number("asks", 1));
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                if (options.flag("held")) {
                    held(message);
                }
                switch (options.text("state", "commit")) {
                    case "rollback":
                        return LocalTransactionState.ROLLBACK_MESSAGE;
                    case "unknown":
                        return LocalTransactionState.UNKNOW;
                    default:
                        return LocalTransactionState.COMMIT_MESSAGE;
                }
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                new Line("checked").received(message).print();
                asked.countDown();
                return options.text("answer", "commit").equals("unknown")
                    ? LocalTransactionState.UNKNOW
                    : LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        // One thread for the broker's questions, so that what comes after a question comes after its answer.
        ExecutorService questions = Executors.newSingleThreadExecutor();
        producer.setExecutorService(questions);
        producer.start();
        try {
            for (int i = 0; i < options.number("count", 1); i++) {
                Message message = Send.message(options, i);
                TransactionSendResult result = producer.sendMessageInTransaction(message, null);
                new Line("sent").body(message.getBody()).sent(result)
                    .with("state", result.getLocalTransactionState().name()).print();
            }
            asked.await(options.number("wait", 0L), TimeUnit.MILLISECONDS);
            // Stopped in the middle of its last answer, a producer would never send it.
            questions.submit(() -> { }).get();
        } finally {
            producer.shutdown();
        }
    }

    private static void held(Message message) {
        try {
            new Line("held").body(message.getBody()).print();
            // Not closed: the next message's branch reads on.
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)).readLine();
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }
}
