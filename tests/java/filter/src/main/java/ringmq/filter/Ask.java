package ringmq.filter;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.filter.FilterFactory;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;

/**
 * Reads questions from the first file until its end and writes answers to the second. A question is an expression, a
 * number, and as many property strings; texts are UTF-8 behind a length, numbers have four bytes. The answer is a letter
 * a property string: T, F, U for null, R for an exception; or X alone where the expression is refused.
 */
public final class Ask {
    private Ask() {
    }

    public static void main(String[] args) throws IOException {
        try (DataInputStream questions = new DataInputStream(new BufferedInputStream(new FileInputStream(args[0])));
            OutputStream answers = new BufferedOutputStream(new FileOutputStream(args[1]))) {
            for (int left = questions.readInt(); left > 0; left--) {
                answer(text(questions), questions, answers);
            }
        }
    }

    private static String text(DataInputStream in) throws IOException {
        byte[] bytes = new byte[in.readInt()];
        in.readFully(bytes);
        return new String(bytes, StandardCharsets.UTF_8);
    }

    private static void answer(String sql, DataInputStream questions, OutputStream answers) throws IOException {
        List<String> messages = new ArrayList<>();
        for (int left = questions.readInt(); left > 0; left--) {
            messages.add(text(questions));
        }
        Expression expression;
        try {
            expression = FilterFactory.INSTANCE.get("SQL92").compile(sql);
        } catch (Throwable e) {
            answers.write('X');
            return;
        }
        for (String message : messages) {
            answers.write(outcome(expression, MessageDecoder.string2messageProperties(message)));
        }
    }

    /** As the broker's own context: a property or null. */
    private static char outcome(Expression expression, Map<String, String> properties) {
        try {
            Object value = expression.evaluate(new EvaluationContext() {
                @Override
                public Object get(String name) {
                    return properties.get(name);
                }

                @Override
                public Map<String, Object> keyValues() {
                    return null;
                }
            });
            return value == null ? 'U' : (Boolean) value ? 'T' : 'F';
        } catch (Throwable e) {
            return 'R';
        }
    }
}
