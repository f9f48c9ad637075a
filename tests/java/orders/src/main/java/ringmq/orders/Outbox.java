package ringmq.orders;

import java.sql.SQLException;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;

/**
 * The messages that a service has promised to send. A promise is a row, written in the transaction of the change that it
 * tells of: both are there or neither, whatever dies. {@link OutboxSender} keeps the promises.
 */
final class Outbox {
    static final String SCHEMA = """
        CREATE TABLE IF NOT EXISTS outbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            topic TEXT NOT NULL,
            tag TEXT NOT NULL,
            message_key TEXT NOT NULL,
            delay_level INTEGER NOT NULL,
            body BLOB NOT NULL,
            sent INTEGER NOT NULL DEFAULT 0)""";

    private static final int BATCH = 32;

    private final Semaphore news = new Semaphore(0);

    void promise(Transaction transaction, String topic, String tag, String key, Form body) throws SQLException {
        promise(transaction, topic, tag, key, body, 0);
    }

    /** A {@code delayLevel} of 0 is none; the others are the broker's {@code messageDelayLevel}, counted from 1. */
    void promise(Transaction transaction, String topic, String tag, String key, Form body, int delayLevel)
        throws SQLException {
        transaction.change("INSERT INTO outbox (topic, tag, message_key, delay_level, body) VALUES (?, ?, ?, ?, ?)",
            topic, tag, key, delayLevel, body.bytes());
        // The sender has to wait for the end of this transaction before it can look.
        news.release();
    }

    List<Row> unsent(Transaction transaction) throws SQLException {
        return transaction.rows("SELECT * FROM outbox WHERE sent = 0 ORDER BY id LIMIT " + BATCH);
    }

    void mark(Transaction transaction, Row sent) throws SQLException {
        transaction.change("UPDATE outbox SET sent = 1 WHERE id = ?", sent.number("id"));
    }

    /** Returns when something may have been promised, or after {@code millis}. */
    void await(long millis) throws InterruptedException {
        news.tryAcquire(millis, TimeUnit.MILLISECONDS);
        news.drainPermits();
    }
}
