package ringmq.driver;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;

/**
 * Sends messages that are delayed by the milliseconds of {@code --delays}, separated by commas, a line {@code sent} each.
 * The number of one of them on standard input takes it back: a line {@code recalled} with the id that the broker tells, or
 * {@code refused}. Anything else ends the run. The methods for it are looked up by name: only clients of 5.x have them.
 */
final class Recall {
    private Recall() {
    }

    static void run(Options options) throws Exception {
        Method delay = Message.class.getMethod("setDelayTimeMs", long.class);
        Method handle = SendResult.class.getMethod("getRecallHandle");
        Method recall = DefaultMQProducer.class.getMethod("recallMessage", String.class, String.class);
        DefaultMQProducer producer = Send.producer(options);
        try {
            List<Object> handles = new ArrayList<>();
            for (String delayMs : options.text("delays").split(",")) {
                Message message = Send.message(options, handles.size());
                delay.invoke(message, Long.parseLong(delayMs));
                SendResult result = producer.send(message);
                handles.add(handle.invoke(result));
                new Line("sent").body(message.getBody()).sent(result).print();
            }
            BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = input.readLine(); line != null && line.matches("[0-9]+"); line = input.readLine()) {
                try {
                    Object id = recall.invoke(producer, options.text("topic"), handles.get(Integer.parseInt(line)));
                    new Line("recalled").with("msgId", id).print();
                } catch (InvocationTargetException e) {
                    new Line("refused").error(e.getCause()).print();
                }
            }
        } finally {
            producer.shutdown();
        }
    }
}
