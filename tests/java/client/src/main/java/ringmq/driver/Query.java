package ringmq.driver;

import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Looks for messages by the tools' own library. {@code --do} key gives a line {@code message} for each message of
 * {@code --topic} with {@code --key}, and a line {@code index}; view the one with {@code --id}, an offset id or a unique
 * key. What is not found is a line {@code refused}.
 */
final class Query {
    private Query() {
    }

    static void run(Options options) throws Exception {
        Tools.run(options, options.text("group", "driver_query"), admin -> ask(admin, options));
    }

    private static void ask(DefaultMQAdminExt admin, Options options) throws Exception {
        String topic = options.text("topic");
        switch (options.text("do")) {
            case "key": {
                QueryResult result = admin.queryMessage(topic, options.text("key"), options.number("max", 64),
                    options.number("begin", 0L), options.number("end", Long.MAX_VALUE));
                for (MessageExt message : result.getMessageList()) {
                    print(message);
                }
                new Line("index").with("timestamp", result.getIndexLastUpdateTimestamp()).print();
                break;
            }
            case "view": {
                MessageExt message = admin.viewMessage(topic, options.text("id"));
                if (message == null) {
                    new Line("refused").with("message", "null").print();
                } else {
                    print(message);
                }
                break;
            }
            default:
                throw new IllegalArgumentException("unknown --do");
        }
    }

    private static void print(MessageExt message) {
        new Line("message").received(message).print();
    }
}
