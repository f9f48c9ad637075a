package ringmq.orders;

import java.sql.SQLException;
import java.util.Optional;

/**
 * The orders. {@code INVISIBLE} becomes {@code CONFIRMED} or {@code CANCELLED}, {@code CONFIRMED} becomes
 * {@code DELIVERED} or {@code CANCELLED}; each move names the status that it leaves, so only one of two can win.
 */
final class OrderTable {
    static final String SCHEMA = """
        CREATE TABLE IF NOT EXISTS orders (
            id TEXT PRIMARY KEY,
            user_id TEXT NOT NULL,
            product TEXT NOT NULL,
            quantity INTEGER NOT NULL,
            coupon TEXT NOT NULL,
            balance INTEGER NOT NULL,
            to_pay INTEGER NOT NULL,
            status TEXT NOT NULL,
            -- Whether the customer has ever seen it; a cancelled order keeps this.
            confirmed INTEGER NOT NULL DEFAULT 0,
            reason TEXT NOT NULL DEFAULT '')""";

    private static final String TAG_UNPAID = "UNPAID";
    private static final String TAG_CANCEL = "CANCEL";

    private final Database database;
    private final Outbox outbox;
    private final int unpaidLevel;

    /** An order that is not paid is cancelled after the broker's delay level {@code unpaidLevel}. */
    OrderTable(Database database, Outbox outbox, int unpaidLevel) {
        this.database = database;
        this.outbox = outbox;
        this.unpaidLevel = unpaidLevel;
    }

    /** Writes the order so that no customer sees it, and the end of its time to pay; false if it is there already. */
    boolean insertInvisible(Order order) throws Exception {
        return database.transaction(transaction -> {
            int rows = transaction.change("""
                INSERT INTO orders (id, user_id, product, quantity, coupon, balance, to_pay, status)
                VALUES (?, ?, ?, ?, ?, ?, ?, 'INVISIBLE') ON CONFLICT DO NOTHING""",
                order.id(), order.user(), order.product(), order.quantity(), order.coupon(), order.balance(),
                order.toPay());
            if (rows == 1) {
                outbox.promise(transaction, Topics.UNPAID, TAG_UNPAID, order.id(), order.form(), unpaidLevel);
            }
            return rows == 1;
        });
    }

    /** Makes the order visible, unless it was cancelled meanwhile. */
    void confirm(String id) throws Exception {
        database.transaction(transaction -> transaction.change(
            "UPDATE orders SET status = 'CONFIRMED', confirmed = 1 WHERE id = ? AND status = 'INVISIBLE'", id));
    }

    void cancelInvisible(String id, String reason) throws Exception {
        database.transaction(transaction -> {
            cancel(transaction, id, reason, "status = 'INVISIBLE'");
            return null;
        });
    }

    /** Cancels an order that nobody can pay any more. */
    void cancelUnpaid(Transaction transaction, String id) throws SQLException {
        cancel(transaction, id, "not paid in time", "status IN ('INVISIBLE', 'CONFIRMED')");
    }

    private void cancel(Transaction transaction, String id, String reason, String from) throws SQLException {
        int rows = transaction.change(
            "UPDATE orders SET status = 'CANCELLED', reason = ? WHERE id = ? AND " + from, reason, id);
        if (rows == 1) {
            outbox.promise(transaction, Topics.CANCEL, TAG_CANCEL, id, new Form().with("order", id));
        }
    }

    void deliver(Transaction transaction, String id) throws SQLException {
        int rows = transaction.change(
            "UPDATE orders SET status = 'DELIVERED' WHERE id = ? AND status = 'CONFIRMED'", id);
        if (rows != 1) {
            throw new IllegalStateException("order " + id + " was paid but waits for no payment");
        }
    }

    Optional<Row> find(String id) throws Exception {
        return database.transaction(transaction -> transaction.row("SELECT * FROM orders WHERE id = ?", id));
    }
}
