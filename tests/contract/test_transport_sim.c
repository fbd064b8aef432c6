/* Goal: the simulated transport keeps the transport contract.
 * Method: the common suite over the simulator. */
#include "tests/contract/transport_contract.h"

int main(void)
{
    return contract_run(&contract_sim);
}
