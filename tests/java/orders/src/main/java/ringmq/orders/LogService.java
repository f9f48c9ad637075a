package ringmq.orders;

import java.util.Map;

/** Keeps the book of payments, and of what customers were told about new orders. */
final class LogService {
    /** Nothing here but the consume log keeps an entry from being written twice. */
    private static final String PAYMENTS = """
        CREATE TABLE IF NOT EXISTS payment_log (
            id INTEGER PRIMARY KEY AUTOINCREMENT, order_id TEXT NOT NULL, cents INTEGER NOT NULL)""";
    private static final String NOTICES = """
        CREATE TABLE IF NOT EXISTS notices (
            id INTEGER PRIMARY KEY AUTOINCREMENT, order_id TEXT NOT NULL, user_id TEXT NOT NULL)""";

    private LogService() {
    }

    static void start(Service service) throws Exception {
        service.create(PAYMENTS, NOTICES);
        service.consume(Groups.PAYMENT_LOG, Topics.PAYMENT, Map.of("PAID", (transaction, body) ->
            transaction.change("INSERT INTO payment_log (order_id, cents) VALUES (?, ?)",
                body.text("order"), body.amount("cents"))));
        service.consume(Groups.NOTICE, Topics.CREATED, Map.of("CREATED", (transaction, body) ->
            transaction.change("INSERT INTO notices (order_id, user_id) VALUES (?, ?)",
                body.text("order"), body.text("user"))));
    }
}
