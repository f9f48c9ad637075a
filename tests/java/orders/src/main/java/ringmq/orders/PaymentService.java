package ringmq.orders;

import java.sql.SQLException;
import java.util.Map;
import java.util.Optional;

/**
 * Decides once for each order whether it is paid or can no longer be: whoever writes the order's row first, the third
 * party's callback or the end of the time to pay. The decision goes to everybody through the outbox.
 */
final class PaymentService {
    private static final String SCHEMA = """
        CREATE TABLE IF NOT EXISTS payments (
            order_id TEXT PRIMARY KEY,
            result TEXT NOT NULL CHECK (result IN ('PAID', 'CLOSED')),
            cents INTEGER NOT NULL)""";

    private final Service service;

    private PaymentService(Service service) {
        this.service = service;
    }

    static void start(Service service) throws Exception {
        service.create(SCHEMA);
        PaymentService payments = new PaymentService(service);
        service.sendOutbox(Groups.PAYMENT_OUTBOX);
        service.consume(Groups.PAYMENT, Topics.UNPAID, Map.of("UNPAID", (transaction, body) ->
            payments.decide(transaction, body.text("order"), body.text("user"), "CLOSED", 0)));
        service.door().on("/callback", payments::callback).open();
    }

    /** The third party asks until it is answered, so this writes two rows and is done. */
    private Form callback(Form request) throws Exception {
        String result = service.database.transaction(transaction -> decide(transaction,
            request.text("order"), request.text("user"), "PAID", request.amount("cents")));
        service.steps.reached("decided");
        return new Form().with("result", result);
    }

    private String decide(Transaction transaction, String order, String user, String result, long cents)
        throws SQLException {
        Optional<Row> decided = transaction.row("SELECT result FROM payments WHERE order_id = ?", order);
        if (decided.isPresent()) {
            return decided.get().text("result");
        }
        transaction.change("INSERT INTO payments VALUES (?, ?, ?)", order, result, cents);
        Form body = new Form().with("order", order).with("user", user).with("cents", cents);
        service.outbox.promise(transaction, Topics.PAYMENT, result, order, body);
        service.steps.reached("deciding");
        return result;
    }
}
