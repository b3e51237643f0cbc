/** What a reason code means, and what an operator does about it next. */
import type { ReasonCode } from './fleet/rows'

export interface Explanation {
  title: string
  next: string
}

const EXPLANATIONS: Record<ReasonCode, Explanation> = {
  none: { title: 'No reason is known', next: 'Compare both ends below.' },
  'proposal-mismatch-ike': { title: 'The ends share no IKE proposal', next: 'Compare crypto of the policies of both ends; check what the foreign gateway offers.' },
  'proposal-mismatch-child': { title: 'The ends share no ESP proposal', next: 'Compare crypto.esp of the policies of both ends.' },
  'ts-mismatch': { title: 'The ends share no traffic selectors', next: 'Compare the subnets that both peers announce, and the selectors of the policy.' },
  'local-auth-failed': { title: 'The peer did not accept the own identity or key', next: 'Check that the peer has the current key of this end: compare the records of both peers.' },
  'peer-auth-failed': { title: "The peer's identity or key was not accepted", next: 'Check that the peer answers at this address, and is the one that the policy names.' },
  'peer-unreachable': { title: 'The peer does not answer', next: 'Check that UDP 500 and 4500 pass to the peer on the whole path, and that its endpoint is right.' },
  'install-failed': { title: 'The kernel did not install the SA or policy', next: "Read the gateway's kernel log and the log of its daemon." },
  'certificate-invalid': { title: 'A certificate is invalid, expired or of an unknown authority', next: 'Check validity, authority and the clocks of both gateways.' },
  'address-failed': { title: 'An address could not be resolved or assigned', next: "Check the endpoint's name, and the policy's pools." },
  'daemon-unreachable': { title: 'The IPsec daemon of this end does not answer', next: 'Check the daemon on the gateway: `warren agent doctor` there says why.' },
  'config-refused': { title: 'The daemon refused the configuration', next: 'Read the detail; correct the policy, or roll it back.' },
  'peer-not-answering': { title: 'The peer has stopped answering an established IKE_SA', next: 'Check the path to the peer (UDP 500 and 4500) and whether its gateway runs.' },
  'peer-daemon-unreachable': { title: "The peer's IPsec daemon does not answer", next: "Check the daemon on the peer's gateway." },
  narrowed: { title: 'The peer agreed to a part of the selectors only', next: 'Compare the selectors of both ends.' },
  'duplicate-sas': { title: 'There are several CHILD_SAs for the same traffic', next: 'Check that only one end initiates, and that no second system configures the daemon.' },
  'one-way-traffic': { title: 'Packets pass in one direction only', next: 'Check routes, packet filters and address translation of the end that receives nothing.' },
  'forwarding-off': { title: 'The gateway does not forward packets', next: 'Set net.ipv4.ip_forward=1 on the gateway.' },
  'rp-filter': { title: "Strict reverse path filtering drops the peer's packets", next: 'Set rp_filter to 2 (loose) on the inbound interface.' },
  'forward-drop': { title: 'The packet filter drops forwarded packets', next: 'Accept the protected networks in the forward chain.' },
  masquerade: { title: 'Source NAT changes packets in front of the tunnel', next: 'Exclude the protected networks from masquerading.' },
  'path-probe-failed': { title: 'Probes through the tunnel are not answered', next: 'Check the path behind the far gateway, and its packet filter.' },
  'path-mtu': { title: 'Large packets do not pass', next: 'Lower the MTU or clamp the MSS on the path.' },
  'guard-unavailable': { title: 'The guard is unavailable, so the tunnel is not applied', next: 'Check warren-guard on the gateway.' },
  'config-drift': { title: 'The daemon did not hold what the agent had loaded', next: 'Find who else configures the daemon: its log has the time.' },
  'rival-connection': { title: "The daemon holds another system's connection with the same selectors", next: 'Remove the other connection from the gateway.' },
  'rolled-back': { title: 'The change was taken back by the gateway', next: 'Correct the policy: it is not applied again as it is.' },
  'bypass-forbidden': { title: 'The tunnel would cut the gateway off, and the policy forbids a bypass', next: 'Narrow the selectors, or allow the bypass.' },
  'bypass-unavailable': { title: 'The tunnel would cut the gateway off, and nothing here can bypass it', next: 'Narrow the selectors.' },
  other: { title: 'The daemon gave another reason', next: 'Read the detail and the log of the daemon.' },
}

/** The explanation of a code; one that this page does not know is shown as it is. */
export function explain(code: ReasonCode | ''): Explanation | null {
  if (code === '') return null
  return EXPLANATIONS[code] ?? { title: code, next: 'Reload the page: the server knows more reasons than it.' }
}
