package ringmq.driver;

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Several clients in one JVM, told what to do by lines on standard input: {@code <as> <command> --option value ...},
 * each part URL-encoded. What a command says carries {@code as}; {@code end} follows when it is done. A command that
 * fails says {@code refused}, and the next one is read.
 */
final class Stage {
    private final String namesrv;
    private final Map<String, DefaultMQProducer> producers = new HashMap<>();
    private final Map<String, Actor> consumers = new HashMap<>();
    private final Map<String, Puller> pullers = new HashMap<>();
    private final Map<String, Share> shares = new HashMap<>();
    private final Map<String, Checked> transactions = new HashMap<>();

    private Stage(String namesrv) {
        this.namesrv = namesrv;
    }

    static void run(Options options) throws Exception {
        Stage stage = new Stage(options.text("namesrv"));
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        new Line("started").print();
        for (String line = lines.readLine(); line != null && !line.equals("leave"); line = lines.readLine()) {
            String[] words = line.split(" ");
            for (int i = 0; i < words.length; i++) {
                words[i] = URLDecoder.decode(words[i], StandardCharsets.UTF_8);
            }
            String as = words[0];
            String[] rest = new String[words.length - 1];
            System.arraycopy(words, 1, rest, 0, rest.length);
            try {
                stage.act(as, rest[0], new Options(rest));
            } catch (Exception e) {
                new Line("refused").with("as", as).error(e).print();
            }
            new Line("end").with("as", as).print();
        }
        stage.leave();
    }

    private void leave() throws Exception {
        for (Actor consumer : consumers.values()) {
            consumer.stop();
        }
        pullers.values().forEach(Puller::stop);
        shares.values().forEach(Share::stop);
        transactions.values().forEach(Checked::stop);
        producers.values().forEach(DefaultMQProducer::shutdown);
    }

    private void act(String as, String command, Options options) throws Exception {
        switch (command) {
            case "send":
                send(as, options);
                break;
            case "consume":
                consumers.put(as, new Actor(as, namesrv, options));
                break;
            case "lite":
                pullers.put(as, new Lite(as, namesrv, options));
                break;
            case "plain":
                pullers.put(as, new Plain(as, namesrv, options));
                break;
            case "pull":
                pullers.get(options.text("consumer")).act(options).with("as", as).print();
                break;
            case "share": {
                Share share = new Share(namesrv, options.text("strategy"), options.text("group"), options);
                shares.put(as, share);
                share.settled().with("as", as).print();
                break;
            }
            case "stop":
                stop(options.text("consumer"));
                break;
            case "transact":
                transactions.computeIfAbsent(options.text("group"), group -> new Checked(namesrv, group, options))
                    .send(as, message(options), options);
                break;
            case "request":
                request(as, options);
                break;
            case "tool":
                tool(as, options);
                break;
            default:
                throw new IllegalArgumentException("unknown command " + command);
        }
    }

    private void stop(String name) {
        if (consumers.containsKey(name)) {
            consumers.remove(name).stop();
        } else if (pullers.containsKey(name)) {
            pullers.remove(name).stop();
        } else {
            shares.remove(name).stop();
        }
    }

    private DefaultMQProducer producer(Options options) throws Exception {
        String group = options.text("group", "stage_producer");
        DefaultMQProducer producer = producers.get(group);
        if (producer == null) {
            producer = new DefaultMQProducer(group, options.flag("trace"), traceTopic(options));
            if (options.has("namespace")) {
                producer.setNamespace(options.text("namespace"));
            }
            producer.setInstanceName(group);
            producer.setNamesrvAddr(namesrv);
            producer.setSendMsgTimeout(10_000);
            producer.setRetryTimesWhenSendFailed(0);
            producer.start();
            producers.put(group, producer);
        }
        return producer;
    }

    /** The topic that a client's traces go to with {@code --trace true}; null for the usual one. */
    static String traceTopic(Options options) {
        return options.has("trace-topic") ? options.text("trace-topic") : null;
    }

    static Message message(Options options, String body) {
        Message message = new Message(options.text("topic"), body.getBytes(StandardCharsets.UTF_8));
        if (options.has("tag")) {
            message.setTags(options.text("tag"));
        }
        if (options.has("keys")) {
            message.setKeys(options.text("keys"));
        }
        options.under("p.").forEach((name, value) -> MessageAccessor.putProperty(message, name, value));
        message.setFlag(options.number("flag", 0));
        return message;
    }

    private static Message message(Options options) {
        return message(options, options.text("body"));
    }

    /** Sends {@code --body}, or with {@code --batch} one batch of the bodies that are separated by commas. */
    private void send(String as, Options options) throws Exception {
        DefaultMQProducer producer = producer(options);
        MessageQueue queue =
            new MessageQueue(options.text("topic"), options.text("broker", "broker-a"), options.number("queue", 0));
        SendResult result;
        String name;
        if (options.has("batch")) {
            List<Message> messages = new ArrayList<>();
            for (String body : options.text("batch").split(",")) {
                messages.add(message(options, body));
            }
            name = options.text("batch");
            result = producer.send(messages, queue);
        } else {
            name = options.text("body");
            result = producer.send(message(options), queue);
        }
        new Line("sent").with("as", as).with("name", name).sent(result).print();
    }

    /** Sends a request and waits for its reply, or for what comes instead. */
    private void request(String as, Options options) throws Exception {
        CountDownLatch answered = new CountDownLatch(1);
        producer(options).request(message(options), new RequestCallback() {
            @Override
            public void onSuccess(Message reply) {
                new Line("reply").with("as", as).whole((MessageExt) reply).print();
                answered.countDown();
            }

            @Override
            public void onException(Throwable e) {
                new Line("refused").with("as", as).error(e).print();
                answered.countDown();
            }
        }, options.number("timeout", 20_000L));
        if (!answered.await(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException("neither a reply nor a refusal");
        }
    }

    /** Runs mqadmin inside this JVM with the words of {@code --args}, and gives its output line by line. */
    private void tool(String as, Options options) {
        PrintStream before = System.out;
        ByteArrayOutputStream collected = new ByteArrayOutputStream();
        System.setOut(new PrintStream(collected, true, StandardCharsets.UTF_8));
        try {
            org.apache.rocketmq.tools.command.MQAdminStartup.main0(options.text("args").split(" "), null);
        } finally {
            System.setOut(before);
        }
        List<String> lines = new ArrayList<>();
        for (String line : collected.toString(StandardCharsets.UTF_8).split("\n")) {
            if (!line.isBlank()) {
                lines.add(line.trim());
            }
        }
        new Line("tool").with("as", as).with("lines", lines).print();
    }
}
