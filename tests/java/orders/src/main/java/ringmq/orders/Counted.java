package ringmq.orders;

import java.sql.SQLException;
import java.util.Map;
import java.util.function.Function;
import java.util.function.ToLongFunction;

/** Goods of which there is a number of each item: a table with what is left, never less than nothing. */
record Counted(String table, String key, String left, Function<Order, String> which, ToLongFunction<Order> wanted,
    String tooFew) implements Goods {
    /** Pieces of each product. */
    static Counted stock() {
        return new Counted("stock", "product", "pieces", Order::product, Order::quantity, "is sold out");
    }

    /** The money that customers keep with the shop, in cents. */
    static Counted balances() {
        return new Counted("balances", "user_id", "cents", Order::user, Order::balance, "does not have that much");
    }

    @Override
    public String schema() {
        return String.format("CREATE TABLE IF NOT EXISTS %s (%s TEXT PRIMARY KEY, %s INTEGER NOT NULL CHECK (%3$s >= 0))",
            table, key, left);
    }

    @Override
    public void stockUp(Transaction transaction, Form initial) throws SQLException {
        for (Map.Entry<String, String> item : initial.fields().entrySet()) {
            transaction.change("INSERT INTO " + table + " VALUES (?, ?) ON CONFLICT DO NOTHING",
                item.getKey(), Long.valueOf(item.getValue()));
        }
    }

    @Override
    public String item(Order order) {
        return which.apply(order);
    }

    @Override
    public long amount(Order order) {
        return wanted.applyAsLong(order);
    }

    @Override
    public void take(Transaction transaction, Order order) throws SQLException, Refusal {
        String change = String.format("UPDATE %s SET %s = %2$s - ? WHERE %s = ? AND %2$s >= ?", table, left, key);
        if (transaction.change(change, amount(order), item(order), amount(order)) == 0) {
            throw new Refusal(item(order) + " " + tooFew);
        }
    }

    @Override
    public void giveBack(Transaction transaction, String item, long amount) throws SQLException {
        transaction.change(String.format("UPDATE %s SET %s = %2$s + ? WHERE %s = ?", table, left, key), amount, item);
    }
}
