package ringmq.driver;

import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Sends {@code --count} transactional messages whose local branch says {@code --state} commit, rollback or unknown;
 * an unknown one is committed when the broker asks. Waits {@code --wait} milliseconds for {@code --asks} questions.
 */
final class Transaction {
    private Transaction() {
    }

    static void run(Options options) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer(options.text("group", "driver_transaction"));
        producer.setNamesrvAddr(options.text("namesrv"));
        java.util.concurrent.CountDownLatch asked = new java.util.concurrent.CountDownLatch(options.number("asks", 1));
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
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
                return LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        producer.start();
        try {
            for (int i = 0; i < options.number("count", 1); i++) {
                Message message = Send.message(options, i);
                TransactionSendResult result = producer.sendMessageInTransaction(message, null);
                new Line("sent").body(message.getBody()).sent(result)
                    .with("state", result.getLocalTransactionState().name()).print();
            }
            asked.await(options.number("wait", 0L), java.util.concurrent.TimeUnit.MILLISECONDS);
        } finally {
            producer.shutdown();
        }
    }
}
