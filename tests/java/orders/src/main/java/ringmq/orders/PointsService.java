package ringmq.orders;

import java.sql.SQLException;
import java.util.Map;

/** Gives a point for each full unit that is paid; not to those whose account is frozen. */
final class PointsService {
    private static final long CENTS_A_POINT = 100;

    /** Nothing here but the consume log keeps a payment from counting twice. */
    private static final String SCHEMA = """
        CREATE TABLE IF NOT EXISTS points (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            order_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            points INTEGER NOT NULL)""";

    private PointsService() {
    }

    static void start(Service service) throws Exception {
        service.create(SCHEMA);
        String frozen = service.options.text("frozen");
        service.consume(Groups.POINTS, Topics.PAYMENT, Map.of("PAID", (transaction, body) -> {
            if (body.text("user").equals(frozen)) {
                throw new Refusal("the points of " + frozen + " are frozen");
            }
            give(transaction, body);
        }));
    }

    private static void give(Transaction transaction, Form paid) throws SQLException {
        transaction.change("INSERT INTO points (order_id, user_id, points) VALUES (?, ?, ?)",
            paid.text("order"), paid.text("user"), paid.amount("cents") / CENTS_A_POINT);
    }
}
