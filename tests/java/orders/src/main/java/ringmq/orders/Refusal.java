package ringmq.orders;

/** A no that has a reason and is final, such as "sold out": to ask again changes nothing. */
final class Refusal extends Exception {
    Refusal(String reason) {
        super(reason);
    }
}
