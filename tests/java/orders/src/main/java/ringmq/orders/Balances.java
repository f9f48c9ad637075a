package ringmq.orders;

import java.sql.SQLException;
import java.util.Map;

/** The money that customers keep with the shop, in cents. */
final class Balances implements Goods {
    @Override
    public String schema() {
        return "CREATE TABLE IF NOT EXISTS balances (user_id TEXT PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0))";
    }

    @Override
    public void stockUp(Transaction transaction, Form initial) throws SQLException {
        for (Map.Entry<String, String> user : initial.fields().entrySet()) {
            transaction.change("INSERT INTO balances VALUES (?, ?) ON CONFLICT DO NOTHING",
                user.getKey(), Long.valueOf(user.getValue()));
        }
    }

    @Override
    public String item(Order order) {
        return order.user();
    }

    @Override
    public long amount(Order order) {
        return order.balance();
    }

    @Override
    public void take(Transaction transaction, Order order) throws SQLException, Refusal {
        int rows = transaction.change("UPDATE balances SET cents = cents - ? WHERE user_id = ? AND cents >= ?",
            order.balance(), order.user(), order.balance());
        if (rows == 0) {
            throw new Refusal(order.user() + " does not have that much");
        }
    }

    @Override
    public void giveBack(Transaction transaction, String user, long cents) throws SQLException {
        transaction.change("UPDATE balances SET cents = cents + ? WHERE user_id = ?", cents, user);
    }
}
