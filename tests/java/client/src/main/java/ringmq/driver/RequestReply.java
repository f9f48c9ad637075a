package ringmq.driver;

import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/** One request over {@code --topic} and its reply, asker and answerer in one process: a line {@code reply}. */
final class RequestReply {
    private RequestReply() {
    }

    static void run(Options options) throws Exception {
        DefaultMQProducer replies = Send.producer(options);
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(options.text("consumer-group", "driver_answerer"));
        consumer.setNamesrvAddr(options.text("namesrv"));
        consumer.subscribe(options.text("topic"), "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                try {
                    replies.send(MessageUtil.createReplyMessage(message, "answer|".getBytes()));
                } catch (Exception e) {
                    new Line("refused").error(e).print();
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        java.util.concurrent.CountDownLatch answered = new java.util.concurrent.CountDownLatch(1);
        replies.request(Send.message(options, 0), new RequestCallback() {
            @Override
            public void onSuccess(Message message) {
                new Line("reply").body(message.getBody()).print();
                answered.countDown();
            }

            @Override
            public void onException(Throwable e) {
                new Line("refused").error(e).print();
                answered.countDown();
            }
        }, options.number("timeout", 20_000L));
        answered.await(30, java.util.concurrent.TimeUnit.SECONDS);
        consumer.shutdown();
        replies.shutdown();
    }
}
