/* Goal: a link through a common neighbour keeps the transport contract as any other.
 * Method: the common suite between endpoints that are all linked to a relayer only, in the simulator and over TCP. */
#include "tests/contract/transport_contract.h"

int main(void)
{
    return contract_run(&contract_relayed_sim) + contract_run(&contract_relayed_uv);
}
