package ringmq.orders;

import java.sql.SQLException;
import java.util.Optional;

/**
 * What orders took, one row an order: {@code TAKEN} or {@code CANCELLED}. A cancellation may overtake the deduction
 * that it takes back; then it leaves its row all the same, and the deduction that comes late finds it and is refused.
 */
final class Deductions {
    static final String SCHEMA = """
        CREATE TABLE IF NOT EXISTS deductions (
            order_id TEXT PRIMARY KEY,
            item TEXT NOT NULL,
            amount INTEGER NOT NULL,
            state TEXT NOT NULL)""";

    private final Goods goods;
    private final Steps steps;

    Deductions(Goods goods, Steps steps) {
        this.goods = goods;
        this.steps = steps;
    }

    /** Takes what the order wants; to ask again for the same order changes nothing. */
    void deduct(Transaction transaction, Order order) throws SQLException, Refusal {
        Optional<Row> known = find(transaction, order.id());
        if (known.isPresent()) {
            if (known.get().text("state").equals("CANCELLED")) {
                throw new Refusal("order " + order.id() + " is cancelled");
            }
            return;
        }
        goods.take(transaction, order);
        transaction.change("INSERT INTO deductions VALUES (?, ?, ?, 'TAKEN')",
            order.id(), goods.item(order), goods.amount(order));
        steps.reached("taking");
    }

    /** Gives back what the order took, if it took anything. */
    void cancel(Transaction transaction, Form body) throws SQLException {
        String order = body.text("order");
        Optional<Row> taken = find(transaction, order).filter(row -> row.text("state").equals("TAKEN"));
        if (taken.isPresent()) {
            goods.giveBack(transaction, taken.get().text("item"), taken.get().number("amount"));
            transaction.change("UPDATE deductions SET state = 'CANCELLED' WHERE order_id = ?", order);
        } else {
            transaction.change("INSERT INTO deductions VALUES (?, '', 0, 'CANCELLED') ON CONFLICT DO NOTHING", order);
        }
    }

    private static Optional<Row> find(Transaction transaction, String order) throws SQLException {
        return transaction.row("SELECT * FROM deductions WHERE order_id = ?", order);
    }
}
