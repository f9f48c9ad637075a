package ringmq.orders;

import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;

/** Named texts, as they travel in calls, answers and messages: {@code name=value&name=value}, percent-encoded. */
final class Form {
    private final Map<String, String> fields = new LinkedHashMap<>();

    static Form parse(byte[] bytes) {
        Form form = new Form();
        for (String field : new String(bytes, StandardCharsets.UTF_8).split("&")) {
            int equals = field.indexOf('=');
            if (equals > 0) {
                form.with(URLDecoder.decode(field.substring(0, equals), StandardCharsets.UTF_8),
                    URLDecoder.decode(field.substring(equals + 1), StandardCharsets.UTF_8));
            }
        }
        return form;
    }

    Form with(String name, Object value) {
        fields.put(name, String.valueOf(value));
        return this;
    }

    String text(String name) {
        String value = fields.get(name);
        if (value == null) {
            throw new IllegalArgumentException("the field " + name + " is missing");
        }
        return value;
    }

    /** A whole number that is not negative: there is no such price, quantity or amount. */
    long amount(String name) {
        long number = Long.parseLong(text(name));
        if (number < 0) {
            throw new IllegalArgumentException(name + " is negative");
        }
        return number;
    }

    Map<String, String> fields() {
        return fields;
    }

    byte[] bytes() {
        return fields.entrySet().stream()
            .map(field -> encode(field.getKey()) + "=" + encode(field.getValue()))
            .collect(Collectors.joining("&"))
            .getBytes(StandardCharsets.UTF_8);
    }

    private static String encode(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8);
    }
}
