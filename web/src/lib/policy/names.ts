/** In the address bar, a policy that does not exist yet: `+` is in no id. */
export const NEW_POLICY = '+new'
