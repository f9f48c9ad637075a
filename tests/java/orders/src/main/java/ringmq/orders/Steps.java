package ringmq.orders;

/**
 * The points between which a service may die. A test arms one of them; the thread that gets there first says
 * {@code held} and stays, so that the service or the broker can be killed exactly there. Without a test it does nothing.
 */
final class Steps {
    private String armed;
    private boolean held;

    synchronized void hold(String step) {
        armed = step;
    }

    synchronized void goOn() {
        armed = null;
        held = false;
        notifyAll();
    }

    synchronized void reached(String step) {
        if (!step.equals(armed)) {
            return;
        }
        armed = null;
        held = true;
        System.out.println("held " + step);
        try {
            while (held) {
                wait();
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
