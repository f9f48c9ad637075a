package ringmq.driver;

import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * One request over {@code --topic} and its reply, asker and answerer in one process: a line {@code reply}, one
 * {@code answered}, and one {@code asked} with the codes of all requests that the client has made meanwhile.
 */
final class RequestReply {
    private RequestReply() {
    }

    static void run(Options options) throws Exception {
        Set<Integer> codes = new ConcurrentSkipListSet<>();
        DefaultMQProducer replies = Send.producer(options, new Hook() {
            @Override
            public void doBeforeRequest(String address, RemotingCommand request) {
                codes.add(request.getCode());
            }
        });
        // The asker has its answer, and the answerer the broker's word for it.
        CountDownLatch done = new CountDownLatch(2);
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(options.text("consumer-group", "driver_answerer"));
        consumer.setNamesrvAddr(options.text("namesrv"));
        consumer.subscribe(options.text("topic"), "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                try {
                    Message reply = MessageUtil.createReplyMessage(message, "answer|".getBytes());
                    new Line("answered").sent(replies.send(reply)).print();
                } catch (Exception e) {
                    new Line("refused").error(e).print();
                }
                done.countDown();
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        replies.request(Send.message(options, 0), new RequestCallback() {
            @Override
            public void onSuccess(Message message) {
                new Line("reply").body(message.getBody()).print();
                done.countDown();
            }

            @Override
            public void onException(Throwable e) {
                new Line("refused").error(e).print();
                done.countDown();
            }
        }, options.number("timeout", 20_000L));
        done.await(30, TimeUnit.SECONDS);
        consumer.shutdown();
        replies.shutdown();
        new Line("asked").with("codes", codes).print();
    }
}
