package ringmq.driver;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.RPCHook;

/**
 * Sends {@code --count} messages named {@code <prefix>-<i>} to {@code --topic}, padded to {@code --size} bytes, in
 * {@code --mode} sync, async, oneway, batch (one batch of all) or select (message i goes to the queue that a selector
 * picks for i modulo {@code --choices}; its line says how many queues were {@code offered}). With {@code --queue} they go to
 * that queue. One line {@code sent} or {@code refused} a message; a batch gives one line; one-way sends give a line without a result. The user
 * properties {@code --properties name=value,value;...} take their values in turn, with the number of the message for
 * {@code {i}}; so do the timers {@code --delay-seconds s,s,...}. With {@code --stay true} it ends only when standard input
 * does, or says something.
 */
final class Send {
    private Send() {
    }

    static DefaultMQProducer producer(Options options) throws Exception {
        return producer(options, null);
    }

    static DefaultMQProducer producer(Options options, RPCHook hook) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(options.text("group", "driver_producer"), hook,
            options.flag("trace"), null);
        asTold(producer, options);
        producer.setNamesrvAddr(options.text("namesrv"));
        producer.setSendMsgTimeout(options.number("timeout", 10_000));
        producer.setRetryTimesWhenSendFailed(options.number("retries", 2));
        producer.setRetryTimesWhenSendAsyncFailed(options.number("retries", 2));
        producer.setMaxMessageSize(options.number("max-size", 4 * 1024 * 1024));
        producer.setDefaultTopicQueueNums(options.number("topic-queues", 4));
        producer.start();
        return producer;
    }

    /** What every client can be told: a {@code --namespace}, the {@code --unit} that it belongs to, its {@code --instance}. */
    @SuppressWarnings("deprecation")
    static void asTold(ClientConfig client, Options options) {
        if (options.has("namespace")) {
            client.setNamespace(options.text("namespace"));
        }
        if (options.has("unit")) {
            client.setUnitName(options.text("unit"));
            client.setUnitMode(true);
        }
        if (options.has("instance")) {
            client.setInstanceName(options.text("instance"));
        }
    }

    static Message message(Options options, int i) {
        byte[] name = (options.text("prefix", "m") + "-" + i + "|").getBytes(StandardCharsets.UTF_8);
        byte[] body = new byte[Math.max(name.length, options.number("size", 0))];
        for (int at = 0; at < body.length; at++) {
            body[at] = at < name.length ? name[at] : (byte) ('a' + (at + i) % 26);
        }
        Message message = new Message(options.text("topic"), body);
        if (options.has("tag")) {
            String[] tags = options.text("tag").split(",");
            message.setTags(tags[i % tags.length]);
        }
        if (options.has("keys")) {
            message.setKeys(options.text("keys") + "-" + i);
        }
        if (options.has("user")) {
            message.putUserProperty("user", options.text("user"));
        }
        if (options.has("properties")) {
            for (String pair : options.text("properties").split(";")) {
                String[] parts = pair.split("=", 2);
                String[] values = parts[1].split(",");
                message.putUserProperty(parts[0], values[i % values.length].replace("{i}", String.valueOf(i)));
            }
        }
        if (options.has("delay-level")) {
            message.setDelayTimeLevel(options.number("delay-level", 0));
        }
        if (options.has("delay-ms")) {
            // Clients of 4.9 have no method for it.
            MessageAccessor.putProperty(message, "TIMER_DELAY_MS", options.text("delay-ms"));
        }
        if (options.has("delay-seconds")) {
            String[] seconds = options.text("delay-seconds").split(",");
            // Clients of 4.9 have no setter for it.
            MessageAccessor.putProperty(message, "TIMER_DELAY_SEC", seconds[i % seconds.length]);
        }
        message.setFlag(options.number("flag", 0));
        return message;
    }

    static void run(Options options) throws Exception {
        DefaultMQProducer producer = producer(options);
        try {
            List<Message> messages = new ArrayList<>();
            int first = options.number("first", 0);
            for (int i = first; i < first + options.number("count", 1); i++) {
                messages.add(message(options, i));
            }
            MessageQueue queue = options.has("queue") ? queue(producer, options) : null;
            switch (options.text("mode", "sync")) {
                case "sync":
                    sync(producer, messages, queue);
                    break;
                case "async":
                    async(producer, messages, queue);
                    break;
                case "oneway":
                    oneway(producer, messages, queue);
                    break;
                case "select":
                    select(producer, messages, options.number("choices", 1));
                    break;
                case "batch":
                    batch(producer, messages, queue);
                    break;
                default:
                    throw new IllegalArgumentException("unknown --mode");
            }
            if (options.flag("stay")) {
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)).readLine();
            }
        } finally {
            producer.shutdown();
        }
    }

    private static MessageQueue queue(DefaultMQProducer producer, Options options) throws Exception {
        int wanted = options.number("queue", 0);
        for (MessageQueue queue : producer.fetchPublishMessageQueues(options.text("topic"))) {
            if (queue.getQueueId() == wanted) {
                return queue;
            }
        }
        throw new IllegalArgumentException("no queue " + wanted);
    }

    private static Line line(String event, Message message) {
        return new Line(event).body(message.getBody());
    }

    private static void sync(DefaultMQProducer producer, List<Message> messages, MessageQueue queue) throws Exception {
        for (Message message : messages) {
            Line before = line("sent", message);
            try {
                before.sent(queue == null ? producer.send(message) : producer.send(message, queue)).print();
            } catch (Exception e) {
                line("refused", message).error(e).print();
            }
        }
    }

    private static void async(DefaultMQProducer producer, List<Message> messages, MessageQueue queue) throws Exception {
        CountDownLatch open = new CountDownLatch(messages.size());
        for (Message message : messages) {
            Line answered = line("sent", message);
            SendCallback callback = new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    answered.sent(result).print();
                    open.countDown();
                }

                @Override
                public void onException(Throwable e) {
                    line("refused", message).error(e).print();
                    open.countDown();
                }
            };
            if (queue == null) {
                producer.send(message, callback);
            } else {
                producer.send(message, queue, callback);
            }
        }
        if (!open.await(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException(open.getCount() + " callbacks never came");
        }
    }

    private static void oneway(DefaultMQProducer producer, List<Message> messages, MessageQueue queue) throws Exception {
        for (Message message : messages) {
            Line sent = line("sent", message);
            if (queue == null) {
                producer.sendOneway(message);
            } else {
                producer.sendOneway(message, queue);
            }
            sent.print();
        }
    }

    private static void select(DefaultMQProducer producer, List<Message> messages, int choices) throws Exception {
        for (int i = 0; i < messages.size(); i++) {
            Line sent = line("sent", messages.get(i));
            AtomicInteger offered = new AtomicInteger();
            SendResult result = producer.send(messages.get(i), (queues, message, choice) -> {
                offered.set(queues.size());
                return queues.get((Integer) choice % queues.size());
            }, i % choices);
            sent.sent(result).with("offered", offered.get()).print();
        }
    }

    private static void batch(DefaultMQProducer producer, List<Message> messages, MessageQueue queue) throws Exception {
        try {
            SendResult result = queue == null ? producer.send(messages) : producer.send(messages, queue);
            new Line("sent").with("count", messages.size()).sent(result).print();
        } catch (Exception e) {
            new Line("refused").with("count", messages.size()).error(e).print();
        }
    }
}
