package ringmq.orders;

import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Creates an order: writes it invisibly, has stock, coupon and balance deducted by their services, makes it visible or
 * cancels it. All of that is the local transaction of the half message that tells of the new order; whoever dies on the
 * way, the broker asks later, and the order's row has the answer.
 */
final class OrderCreation implements TransactionListener {
    private static final String TAG_CREATED = "CREATED";

    private final OrderTable orders;
    private final Peer stock;
    private final Peer coupon;
    private final Peer balance;
    private final TransactionMQProducer producer;
    private final Steps steps;

    OrderCreation(Service service, OrderTable orders) throws MQClientException {
        this.orders = orders;
        this.steps = service.steps;
        stock = new Peer(service.options.number("stock"));
        coupon = new Peer(service.options.number("coupon"));
        balance = new Peer(service.options.number("balance"));
        producer = new TransactionMQProducer(Groups.ORDER_CREATION);
        service.connect(producer);
        producer.setTransactionListener(this);
        producer.start();
    }

    /** Creates the order of this id, or does nothing if somebody has begun to. */
    void create(Order order) throws Exception {
        if (!orders.insertInvisible(order)) {
            return;
        }
        steps.reached("invisible");
        Message created = new Message(Topics.CREATED, TAG_CREATED, order.id(), order.form().bytes());
        try {
            producer.sendMessageInTransaction(created, order);
        } catch (MQClientException e) {
            orders.cancelInvisible(order.id(), "the broker does not answer");
        }
    }

    @Override
    public LocalTransactionState executeLocalTransaction(Message half, Object argument) {
        Order order = (Order) argument;
        steps.reached("half");
        try {
            try {
                deduct(order);
                orders.confirm(order.id());
                steps.reached("confirmed");
            } catch (Exception e) {
                orders.cancelInvisible(order.id(), String.valueOf(e.getMessage()));
                steps.reached("refused");
            }
            return state(order.id());
        } catch (Exception e) {
            // The order's own database does not answer; it is asked again when the broker asks.
            return LocalTransactionState.UNKNOW;
        }
    }

    private void deduct(Order order) throws Exception {
        stock.call("/deduct", order.form());
        steps.reached("stock deducted");
        if (order.hasCoupon()) {
            coupon.call("/deduct", order.form());
            steps.reached("coupon deducted");
        }
        if (order.balance() > 0) {
            balance.call("/deduct", order.form());
            steps.reached("balance deducted");
        }
    }

    @Override
    public LocalTransactionState checkLocalTransaction(MessageExt half) {
        try {
            return state(half.getKeys());
        } catch (Exception e) {
            return LocalTransactionState.UNKNOW;
        }
    }

    /** An invisible order is still being created, or its creator is dead and its time will end. */
    private LocalTransactionState state(String id) throws Exception {
        Row order = orders.find(id).orElseThrow();
        if (order.number("confirmed") == 1) {
            return LocalTransactionState.COMMIT_MESSAGE;
        }
        return order.text("status").equals("CANCELLED")
            ? LocalTransactionState.ROLLBACK_MESSAGE
            : LocalTransactionState.UNKNOW;
    }
}
