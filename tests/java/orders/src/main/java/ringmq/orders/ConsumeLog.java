package ringmq.orders;

import java.sql.SQLException;
import java.util.Optional;

/**
 * What became of each message, by group, tag and key. The row is written in the transaction of the change that the
 * message asked for, so a message that comes again finds either both or neither.
 */
final class ConsumeLog {
    static final String SCHEMA = """
        CREATE TABLE IF NOT EXISTS consume_log (
            group_name TEXT NOT NULL,
            tag TEXT NOT NULL,
            message_key TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('DONE', 'FAILED', 'DEAD')),
            retries INTEGER NOT NULL,
            reason TEXT NOT NULL,
            PRIMARY KEY (group_name, tag, message_key))""";

    /** A message that failed is tried so many times more; then it is dead, and the broker keeps it as a dead letter. */
    static final int RETRIES_MAX = 3;

    interface Change {
        void make(Transaction transaction, Form body) throws Exception;
    }

    /** Whose message it is, and which. */
    record Receipt(String group, String tag, String key) {
    }

    private final Database database;
    private final Steps steps;

    ConsumeLog(Database database, Steps steps) {
        this.database = database;
        this.steps = steps;
    }

    /** Makes the change unless it has been made; false asks for the message again. */
    boolean once(Receipt receipt, Form body, Change change) throws Exception {
        try {
            boolean done = database.transaction(transaction -> {
                Optional<Row> known = find(transaction, receipt);
                if (known.isPresent() && !known.get().text("status").equals("FAILED")) {
                    return known.get().text("status").equals("DONE");
                }
                change.make(transaction, body);
                write(transaction, receipt, "DONE", known.map(row -> row.number("retries") + 1).orElse(0L), "");
                steps.reached("changed");
                return true;
            });
            steps.reached("consumed");
            return done;
        } catch (Exception e) {
            database.transaction(transaction -> {
                fail(transaction, receipt, e);
                return null;
            });
            return false;
        }
    }

    private static void fail(Transaction transaction, Receipt receipt, Exception reason) throws SQLException {
        long retries = find(transaction, receipt).map(row -> row.number("retries") + 1).orElse(0L);
        String status = retries < RETRIES_MAX ? "FAILED" : "DEAD";
        write(transaction, receipt, status, retries, String.valueOf(reason.getMessage()));
    }

    private static Optional<Row> find(Transaction transaction, Receipt receipt) throws SQLException {
        return transaction.row(
            "SELECT status, retries FROM consume_log WHERE group_name = ? AND tag = ? AND message_key = ?",
            receipt.group(), receipt.tag(), receipt.key());
    }

    private static void write(Transaction transaction, Receipt receipt, String status, long retries, String reason)
        throws SQLException {
        transaction.change("""
            INSERT INTO consume_log (group_name, tag, message_key, status, retries, reason) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET status = excluded.status, retries = excluded.retries, reason = excluded.reason""",
            receipt.group(), receipt.tag(), receipt.key(), status, retries, reason);
    }
}
