package ringmq.orders;

import java.sql.SQLException;

/** Coupons, each good for one order. */
final class Coupons implements Goods {
    @Override
    public String schema() {
        return "CREATE TABLE IF NOT EXISTS coupons (id TEXT PRIMARY KEY, used_by TEXT)";
    }

    @Override
    public void stockUp(Transaction transaction, Form initial) throws SQLException {
        for (String coupon : initial.fields().keySet()) {
            transaction.change("INSERT INTO coupons (id) VALUES (?) ON CONFLICT DO NOTHING", coupon);
        }
    }

    @Override
    public String item(Order order) {
        return order.coupon();
    }

    @Override
    public long amount(Order order) {
        return 1;
    }

    @Override
    public void take(Transaction transaction, Order order) throws SQLException, Refusal {
        int rows = transaction.change("UPDATE coupons SET used_by = ? WHERE id = ? AND used_by IS NULL",
            order.id(), order.coupon());
        if (rows == 0) {
            throw new Refusal("coupon " + order.coupon() + " cannot be used");
        }
    }

    @Override
    public void giveBack(Transaction transaction, String coupon, long one) throws SQLException {
        transaction.change("UPDATE coupons SET used_by = NULL WHERE id = ?", coupon);
    }
}
