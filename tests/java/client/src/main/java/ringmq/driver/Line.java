package ringmq.driver;

import java.security.MessageDigest;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.MessageExt;

/** One line of output: a flat JSON object whose first member says what happened. */
final class Line {
    /** Kept, because a tool's own output is collected by putting another one in its place. */
    private static final java.io.PrintStream OUT = System.out;

    private final Map<String, Object> members = new LinkedHashMap<>();

    Line(String event) {
        members.put("event", event);
    }

    Line with(String name, Object value) {
        members.put(name, value);
        return this;
    }

    Line sent(SendResult result) {
        with("status", result.getSendStatus().name());
        with("msgId", result.getMsgId());
        with("offsetMsgId", result.getOffsetMsgId());
        with("broker", result.getMessageQueue().getBrokerName());
        with("queueId", result.getMessageQueue().getQueueId());
        with("queueOffset", result.getQueueOffset());
        return with("region", result.getRegionId());
    }

    Line received(MessageExt message) {
        with("topic", message.getTopic());
        with("broker", message.getBrokerName());
        with("queueId", message.getQueueId());
        with("queueOffset", message.getQueueOffset());
        with("position", message.getCommitLogOffset());
        with("msgId", message.getMsgId());
        with("tags", message.getTags());
        with("keys", message.getKeys());
        with("flag", message.getFlag());
        with("sysFlag", message.getSysFlag());
        with("bornTimestamp", message.getBornTimestamp());
        with("storeTimestamp", message.getStoreTimestamp());
        with("storeHost", String.valueOf(message.getStoreHost()));
        with("reconsumeTimes", message.getReconsumeTimes());
        with("user", message.getUserProperty("user"));
        return body(message.getBody());
    }

    /** Everything that a client can see of a message. */
    Line whole(MessageExt message) {
        received(message);
        members.remove("user");
        members.remove("sha256");
        with("name", new String(message.getBody(), java.nio.charset.StandardCharsets.UTF_8));
        // What the broker asks a producer about is decoded without the client's own addition.
        if (message instanceof org.apache.rocketmq.common.message.MessageClientExt) {
            with("offsetMsgId", ((org.apache.rocketmq.common.message.MessageClientExt) message).getOffsetMsgId());
        }
        with("prepared", message.getPreparedTransactionOffset());
        return with("properties", new java.util.TreeMap<>(message.getProperties()));
    }

    /** The body itself as far as it names the message (up to the first bar), and a digest of all of it. */
    Line body(byte[] body) {
        int bar = 0;
        while (bar < body.length && body[bar] != '|') {
            bar++;
        }
        with("size", body.length);
        with("name", new String(body, 0, Math.min(bar, 64), java.nio.charset.StandardCharsets.UTF_8));
        return with("sha256", sha256(body));
    }

    Line error(Throwable e) {
        with("type", e.getClass().getSimpleName());
        if (e instanceof MQBrokerException) {
            with("code", ((MQBrokerException) e).getResponseCode());
        } else if (e instanceof MQClientException) {
            with("code", ((MQClientException) e).getResponseCode());
        }
        if (e.getCause() instanceof MQBrokerException) {
            with("brokerCode", ((MQBrokerException) e.getCause()).getResponseCode());
            with("brokerRemark", ((MQBrokerException) e.getCause()).getErrorMessage());
        }
        return with("message", String.valueOf(e.getMessage()));
    }

    void print() {
        StringBuilder out = new StringBuilder();
        write(out, members);
        synchronized (OUT) {
            OUT.println(out);
            OUT.flush();
        }
    }

    private static String sha256(byte[] bytes) {
        try {
            StringBuilder hex = new StringBuilder();
            for (byte b : MessageDigest.getInstance("SHA-256").digest(bytes)) {
                hex.append(String.format("%02x", b));
            }
            return hex.toString();
        } catch (java.security.NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    private static void write(StringBuilder out, Object value) {
        if (value == null || value instanceof Number || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof Map) {
            String separator = "{";
            for (Map.Entry<?, ?> member : ((Map<?, ?>) value).entrySet()) {
                out.append(separator);
                write(out, String.valueOf(member.getKey()));
                out.append(':');
                write(out, member.getValue());
                separator = ",";
            }
            out.append(separator.equals("{") ? "{}" : "}");
        } else if (value instanceof Collection) {
            String separator = "[";
            for (Object item : (Collection<?>) value) {
                out.append(separator);
                write(out, item);
                separator = ",";
            }
            out.append(separator.equals("[") ? "[]" : "]");
        } else {
            quote(out, String.valueOf(value));
        }
    }

    private static void quote(StringBuilder out, String text) {
        out.append('"');
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }
}
